// The end of a sign-in in a window of its own. Tells the page that opened it, twice: a sign-in page on the way may have cut
// the tie between the two windows, and a channel needs none. A frame gets a code, which is for it alone.
'use strict';
const code = new URLSearchParams(location.hash.slice(1)).get('code');
history.replaceState(null, '', location.pathname);
if (code) {
  window.opener?.postMessage({ type: 'vestibule:arrive', code }, location.origin);
} else {
  const told = { type: 'vestibule:signed-in' };
  new BroadcastChannel('vestibule').postMessage(told);
  window.opener?.postMessage(told, location.origin);
}
window.close();

// A form that was sent when the session had just ended. The browser keeps it with this page: loaded anew, it is sent again. So
// the person signs in in a window of its own, and this page waits for word of that.
'use strict';
const link = document.querySelector('a[data-window]');
let told = false;
function resume({ data }) {
  if (told || data?.type !== 'vestibule:signed-in') return;
  told = true;
  location.reload();
}
new BroadcastChannel('vestibule').addEventListener('message', resume);
window.addEventListener('message', (event) => { if (event.origin === location.origin) resume(event); });
link.addEventListener('click', (event) => {
  if (window.open(link.href, 'vestibule-sign-in', 'popup,width=520,height=720')) event.preventDefault();
});

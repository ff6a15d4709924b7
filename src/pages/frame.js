// A page in a frame: opens a window in which the person signs in, and takes the code that the window brings back. Only a page
// of this very origin is believed.
'use strict';
const link = document.querySelector('a[data-window]');
link.addEventListener('click', (event) => {
  if (window.open(link.href, 'vestibule-sign-in', 'popup,width=520,height=720')) event.preventDefault();
});
window.addEventListener('message', (event) => {
  if (event.origin !== location.origin || event.data?.type !== 'vestibule:arrive') return;
  location.replace(`/.vestibule/arrive?code=${encodeURIComponent(event.data.code)}`);
});

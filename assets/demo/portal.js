// Two long-lived connections, so that one can watch them end when the right ends.
'use strict';
const show = (id, text) => { document.getElementById(id).textContent = text; };

const events = new EventSource('/events');
events.addEventListener('tick', event => {
  const { tick, time } = JSON.parse(event.data);
  show('ticks', `${tick} since opened, last at ${new Date(time * 1000).toLocaleTimeString()}`);
});
events.addEventListener('error', () => {
  show('ticks', events.readyState === EventSource.CLOSED ? 'ended: no longer permitted' : 'interrupted, trying again');
});

const send = document.getElementById('send');
const socket = new WebSocket(`${location.protocol.replace('http', 'ws')}//${location.host}/ws`);
let sent = 0;
socket.addEventListener('open', () => { show('echo', 'open'); send.hidden = false; });
socket.addEventListener('message', event => show('echo', `came back: ${event.data}`));
socket.addEventListener('close', event => { show('echo', `closed (${event.code})`); send.hidden = true; });
send.addEventListener('click', () => { sent += 1; socket.send(`message ${sent}`); });

// Keeps the fragment of a deep link through the sign-in: a server never sees it, so it travels as a query field.
// As the browser gives it (`#` and ASCII), so that it comes back byte for byte.
'use strict';
const fragment = location.hash;
for (const link of document.querySelectorAll('a[data-keep-fragment]')) {
  if (fragment) link.search += `${link.search ? '&' : '?'}fragment=${encodeURIComponent(fragment)}`;
  if (link.hasAttribute('data-go')) location.replace(link.href);
}

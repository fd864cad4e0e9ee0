// Every text on the page whose contrast to what lies under it is below 4.5 to 1: [ratio, class, text].
() => {
  const light = (c) => { const [r, g, b] = c.map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const rgb = (text) => text.match(/[\d.]+/g).map(Number);
  const under = (it) => { for (; it; it = it.parentElement) { const c = rgb(getComputedStyle(it).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
  return [...document.querySelectorAll('body *')].filter((it) => !it.disabled && !it.closest(':disabled, .chip.zero, canvas, .hidden, .skip')
      && it.checkVisibility() && [...it.childNodes].some((n) => n.nodeType === 3 && n.data.trim())).map((it) => {
    const a = light(rgb(getComputedStyle(it).color).slice(0, 3)), b = light(under(it));
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), it.className, it.textContent.slice(0, 30)];
  }).filter(([ratio]) => ratio < 4.5);
}

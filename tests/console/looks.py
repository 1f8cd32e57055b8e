"""What is looked at in a page itself: contrast, and names for screen readers."""

# Texts whose contrast with what is behind them is under what WCAG 2.2 AA asks for.
CONTRAST = """(() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgb = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return { c: [r, g, b], a: a / 255 };
    };
    const over = (top, bottom) => top.c.map((value, at) => value * top.a + bottom[at] * (1 - top.a));
    const light = (c) => {
        const [r, g, b] = c.map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
        if (!element) return rgb(getComputedStyle(document.documentElement).colorScheme.includes('dark') ? 'black' : 'white').c;
        const own = rgb(getComputedStyle(element).backgroundColor);
        return own.a === 1 ? own.c : over(own, ground(element.parentElement));
    };
    const poor = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || !element.checkVisibility() || element.closest('[disabled]')) continue;
        const style = getComputedStyle(element);
        const behind = ground(element);
        const [a, b] = [light(over(rgb(style.color), behind)), light(behind)].sort((x, y) => y - x);
        const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < (large ? 3 : 4.5)) poor.push(`${walker.currentNode.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
    }
    return poor;
})()"""

# Controls that a screen reader could not name, and targets that are smaller than 24 px.
NAMES = """(() => {
    const wrong = [];
    for (const one of document.querySelectorAll('button, input, select, textarea, a, figure .frame, [role=img], [role=region]')) {
        if (!one.checkVisibility()) continue;
        const name = one.getAttribute('aria-label') || one.textContent.trim() || [...(one.labels ?? [])].map((label) => label.textContent).join('');
        if (!name) wrong.push(`no name: ${one.outerHTML.slice(0, 80)}`);
        const box = one.getBoundingClientRect();
        const label = one.labels?.[0]?.getBoundingClientRect();
        const tall = Math.max(box.height, label?.height ?? 0);
        if (one.matches('button, input, select, a:not(.skip)') && tall < 24) wrong.push(`small: ${name} ${box.height}`);
    }
    if (document.querySelectorAll('h1').length !== 1) wrong.push('not one heading');
    if (!document.documentElement.lang) wrong.push('no language');
    return wrong;
})()"""

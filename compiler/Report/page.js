'use strict';
(() => {
  const root = document.documentElement;
  const dark = () => root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  document.getElementById('theme').addEventListener('click', () => {
    root.dataset.theme = dark() ? 'light' : 'dark';
    if (draw) draw();
  });
  const data = JSON.parse(document.getElementById('data').textContent);
  const canvas = document.getElementById('canvas');
  let draw = null;
  if (!canvas || !data.steps.length) return;

  const pen = canvas.getContext('2d'), readout = document.getElementById('readout');
  const pick = document.getElementById('step'), find = document.getElementById('find');
  const GAP = 12, AXIS = 26, KINDS = ['product', 'attention', 'other', 'collective', 'message', 'wait'];
  let step = data.steps[0], from = 0, to = step.length, gutter = 110, width = 800, ROW = 19;
  const colour = name => getComputedStyle(root).getPropertyValue('--' + name).trim();
  const time = ns => ns >= 1e9 ? (ns / 1e9).toPrecision(4) + ' s' : ns >= 1e6 ? (ns / 1e6).toPrecision(4) + ' ms' :
    (ns / 1e3).toPrecision(4) + ' µs';
  const x = ns => gutter + (ns - from) / (to - from) * (width - gutter);
  const top = (track, queue) => AXIS + track * (2 * ROW + GAP) + queue * ROW;

  // Events of a row: [begin, duration, instruction, micro-batch] one after the other, by their begin.
  const walk = (events, use) => {
    for (let e = 0; e < events.length; e += 4)
      if (events[e] < to && events[e] + events[e + 1] > from && use(e) === false) return;
  };
  const words = (track, events, e) => {
    const made = track.instructions[events[e + 2]];
    if (!made) return '';
    return (made[0] === null ? made[2] : made[0] + ' ' + data.ops[made[1]] + ' ' + made[2]) +
      (step.microBatches > 1 ? ', micro-batch ' + events[e + 3] : '');
  };
  const layerOf = instruction => instruction[3] < 0 ? instruction[2] : 'layer ' + instruction[3];

  function axis() {
    const least = (to - from) / Math.max(2, (width - gutter) / 110);
    let unit = Math.pow(10, Math.floor(Math.log10(least)));
    unit *= least / unit > 5 ? 10 : least / unit > 2 ? 5 : least / unit > 1 ? 2 : 1;
    pen.textBaseline = 'middle';
    for (let at = Math.ceil(from / unit) * unit; at <= to; at += unit) {
      pen.fillStyle = colour('line');
      pen.fillRect(x(at), AXIS - 6, 1, canvas.clientHeight);
      pen.fillStyle = colour('soft');
      pen.textAlign = x(at) > width - 40 ? 'right' : 'left';
      pen.fillText(at === 0 ? '0' : time(at), x(at) + (pen.textAlign === 'left' ? 3 : -3), AXIS / 2);
    }
    pen.textAlign = 'left';
  }

  // Neighbours too narrow to be told apart are one block, of one layer and kind.
  function row(track, queue, y) {
    const events = track.queues[queue];
    let open = null;
    const close = () => {
      if (!open) return;
      const begin = Math.max(gutter, open.begin), w = Math.min(width, open.end) - begin;
      pen.fillStyle = paint[open.kind];
      pen.fillRect(begin, y + 1, Math.max(w > 3 ? w - .7 : w, .5), ROW - 3);
      if (w > 34) {
        const text = open.count > 4 ? layerOf(open.made) : open.count > 1 ? open.made[0] + '-' + open.last[0] : (open.made[0] === null ? open.made[2] : String(open.made[0])) +
          (w > 110 && open.made[0] !== null ? ' ' + data.ops[open.made[1]] + (w > 220 ? ' ' + open.made[2] : '') : '');
        pen.save();
        pen.beginPath();
        pen.rect(begin, y, w - 3, ROW);
        pen.clip();
        pen.fillStyle = open.kind === 5 ? colour('text') : dark() ? '#0d1117' : '#ffffff';
        pen.fillText(text, begin + 4, y + ROW / 2);
        pen.restore();
      }
      open = null;
    };
    walk(events, e => {
      const made = track.instructions[events[e + 2]], begin = x(events[e]), end = x(events[e] + events[e + 1]);
      if (open && begin - open.end < 1 && (end - begin < 4 || open.end - open.begin < 4) && made[3] === open.made[3]) {
        if (end - begin > open.longest) [open.longest, open.kind] = [end - begin, made[4]];
        open.end = Math.max(open.end, end);
        open.last = made;
        ++open.count;
      } else {
        close();
        open = {begin, end, made, kind: made[4], longest: end - begin, last: made, count: 1};
      }
    });
    close();
  }

  let paint = [];
  draw = () => {
    width = canvas.clientWidth;
    gutter = width < 600 ? 74 : 136;
    ROW = step.tracks.length > 4 ? 19 : 28;
    const height = AXIS + step.tracks.length * (2 * ROW + GAP), ratio = window.devicePixelRatio || 1;
    canvas.style.height = height + 'px';
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.font = '12px system-ui, sans-serif';
    paint = KINDS.map(colour);
    axis();
    step.tracks.forEach((track, t) => {
      for (const queue of [0, 1]) {
        const y = top(t, queue);
        pen.fillStyle = colour('back');
        pen.fillRect(gutter, y + 1, width - gutter, ROW - 3);
        row(track, queue, y);
      }
      pen.fillStyle = colour('card');
      pen.fillRect(0, top(t, 0), gutter - 1, 2 * ROW);
      pen.fillStyle = colour('text');
      pen.fillText(width < 600 ? 'rank ' + track.rank : track.name, 6, top(t, 0) + ROW / 2, gutter - 12);
      pen.fillStyle = colour('soft');
      pen.fillText(width < 600 ? 'exchange' : 'communication', 6, top(t, 1) + ROW / 2, gutter - 12);
    });
  };

  function show(begin, end) {
    const span = Math.min(step.length, Math.max(end - begin, step.length / 2e5, 20));
    from = Math.min(Math.max(0, begin + (end - begin - span) / 2), step.length - span);
    to = from + span;
    draw();
  }
  const zoom = (factor, at = (from + to) / 2) => show(at - (at - from) * factor, at + (to - at) * factor);
  const pan = share => {
    const by = Math.min(Math.max(share * (to - from), -from), step.length - to);
    show(from + by, to + by);
  };
  function choose(index) {
    step = data.steps[index];
    canvas.setAttribute('aria-label', 'Timeline of ' + step.name + ': a table with the same figures stands below it');
    readout.textContent = step.about;
    show(0, step.length);
  }

  const actions = {in: () => zoom(.5), out: () => zoom(2), all: () => show(0, step.length), left: () => pan(-.3), right: () => pan(.3)};
  for (const button of document.querySelectorAll('[data-do]'))
    button.addEventListener('click', () => actions[button.dataset.do]());
  canvas.addEventListener('keydown', event => {
    const action = {ArrowLeft: 'left', ArrowRight: 'right', '+': 'in', '=': 'in', '-': 'out', 0: 'all'}[event.key];
    if (!action) return;
    event.preventDefault();
    actions[action]();
  });
  const timeAt = event => from + (event.clientX - canvas.getBoundingClientRect().left - gutter) / (width - gutter) * (to - from);
  canvas.addEventListener('wheel', event => {
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey) return;
    event.preventDefault();
    zoom(event.deltaY + event.deltaX > 0 ? 1.25 : .8, timeAt(event));
  }, {passive: false});
  let held = null;
  canvas.addEventListener('pointerdown', event => {
    held = {x: event.clientX, from, to};
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointerup', () => held = null);
  canvas.addEventListener('pointercancel', () => held = null);
  canvas.addEventListener('pointermove', event => {
    if (held) {
      const by = (held.x - event.clientX) / (width - gutter) * (held.to - held.from);
      const shift = Math.min(Math.max(by, -held.from), step.length - held.to);
      show(held.from + shift, held.to + shift);
    }
    const y = event.clientY - canvas.getBoundingClientRect().top - AXIS, t = Math.floor(y / (2 * ROW + GAP));
    const queue = Math.floor((y - t * (2 * ROW + GAP)) / ROW), track = step.tracks[t], at = timeAt(event);
    if (!track || queue > 1 || queue < 0) return;
    let text = '';
    walk(track.queues[queue], e => {
      const events = track.queues[queue];
      if (events[e] > at) return false;
      if (events[e] + events[e + 1] >= at)
        text = words(track, events, e) + ': ' + time(events[e + 1]) + ' from ' + time(events[e]) + ' on; ' + track.name;
    });
    if (text) readout.textContent = text;
  });
  pick.addEventListener('change', () => choose(pick.selectedIndex));
  document.getElementById('search').addEventListener('submit', event => {
    event.preventDefault();
    const text = find.value.trim().toLowerCase();
    if (!text) return;
    for (const track of step.tracks)
      for (const events of track.queues)
        for (let e = 0; e < events.length; e += 4) {
          const made = track.instructions[events[e + 2]];
          if (!made || (String(made[0]) !== text && !String(made[2]).toLowerCase().includes(text))) continue;
          const room = Math.max(events[e + 1] * 6, 20);
          show(events[e] - room, events[e] + events[e + 1] + room);
          readout.textContent = words(track, events, e) + ': ' + time(events[e + 1]) + ' from ' + time(events[e]) + ' on; ' + track.name;
          return;
        }
    readout.textContent = 'Nothing in this step has the id or a label with “' + find.value + '”.';
  });
  window.addEventListener('resize', draw);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  choose(0);
})();

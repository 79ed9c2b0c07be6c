/** @typedef {import('./page-data.ts').PageData} PageData */
/** @typedef {import('./page-data.ts').PageTurn} PageTurn */
/** @typedef {import('./page-data.ts').PageStep} PageStep */
/** @typedef {import('./page-data.ts').PageAnswer} PageAnswer */
/** @typedef {{ body: HTMLElement, text: Text }} ShownBranch */

;(() => {
  /** @type {PageData} */
  const data = JSON.parse(document.getElementById('data')?.textContent ?? '')
  const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4]
  /** The answers are to be seen growing: slowed down or sped up to about this long, in ms. */
  const PLEASANT = 12_000
  const SVG = 'http://www.w3.org/2000/svg'

  /** @type {Answer[]} */
  let answers = []
  /** Of the clock that all answers share, in ms. */
  let now = 0
  let end = 0
  let speed = 1
  let playing = false
  let drawnAt = 0

  const play = element('button', { type: 'button' }, 'Play')
  const slider = /** @type {HTMLInputElement} */ (
    element('input', { type: 'range', min: '0', step: '1', 'aria-label': 'Time in the answer, ms' })
  )
  const clock = element('output', { class: 'clock' })
  const speeds = /** @type {HTMLSelectElement} */ (element('select', { 'aria-label': 'Speed' }))
  const prompt = element('p', { class: 'prompt' })
  const sides = element('div', { class: 'sides' })
  document.body.append(
    element('h1', {}, data.title),
    facts(),
    turnButtons(),
    prompt,
    element('div', { class: 'controls' }, play, slider, clock, speeds),
    sides,
  )

  play.addEventListener('click', () => (playing ? pause() : start()))
  slider.addEventListener('input', () => {
    pause()
    seek(Number(slider.value))
  })
  speeds.addEventListener('change', () => {
    speed = Number(speeds.value)
  })
  /** One answer as it stands at a time. */
  class Answer {
    /** @param {PageAnswer} answer @param {number} last ms that the time line shows. */
    constructor(answer, last) {
      this.steps = answer.steps
      this.body = element('div', { class: 'body' })
      this.figures = element('dl', { class: 'figures' })
      this.line = timeLine(answer.steps, last)
      const name = element('h2', {}, answer.mode === 'parallel' ? 'Parallel' : 'Serial')
      this.element = element('section', {}, name, this.figures, this.line.element, this.body)
      this.done = 0
      this.tokens = 0
      /** @type {Map<number, ShownBranch>} */
      this.branches = new Map()
      this.restart()
    }

    get end() {
      return (this.steps.at(-1)?.us ?? 0) / 1000
    }

    restart() {
      this.done = 0
      this.tokens = 0
      this.body.replaceChildren()
      this.branches.clear()
      this.begin(0, this.body)
    }

    /** @param {number} ms */
    seek(ms) {
      const before = this.steps[this.done - 1]
      if (before && before.us / 1000 > ms) this.restart()
      for (let step = this.steps[this.done]; step && step.us / 1000 <= ms; step = this.steps[this.done]) {
        this.advance(step)
        this.done++
      }
      this.line.seek(ms)
      this.describe(ms)
    }

    /** @param {PageStep} step */
    advance(step) {
      const begun = new Set(step.forks.map(([branch]) => branch))
      for (const [branch, text] of step.texts) if (!begun.has(branch)) this.write(branch, text)
      for (const [branch, parent] of step.forks) {
        const around = this.branches.get(parent)
        if (!around) continue
        this.begin(branch, around.body)
        around.text = document.createTextNode('')
        around.body.append(around.text)
      }
      for (const [branch, text] of step.texts) if (begun.has(branch)) this.write(branch, text)
      for (const [branch] of step.ends) this.branches.get(branch)?.body.classList.remove('growing')
      this.tokens += step.tokens
    }

    /** @param {number} branch @param {HTMLElement} around */
    begin(branch, around) {
      const text = document.createTextNode('')
      const body = tinted(
        branch,
        element('div', { class: branch === 0 ? 'branch root growing' : 'branch growing' }),
      )
      body.append(text)
      around.append(body)
      this.branches.set(branch, { body, text })
    }

    /** @param {number} branch @param {string} text */
    write(branch, text) {
      this.branches.get(branch)?.text.appendData(text)
    }

    /** @param {number} ms */
    describe(ms) {
      const step = this.steps[this.done - 1]
      const steps = this.steps.slice(0, this.done).filter(({ tokens }) => tokens > 0).length
      const complete = this.done === this.steps.length
      const shown = [
        ['Time', formatMs(complete ? this.end : ms)],
        ['Tokens', String(this.tokens)],
        ['Tokens per step', steps === 0 ? '–' : (this.tokens / steps).toFixed(2)],
        ['Live branches', complete ? 'complete' : String(step?.live ?? 0)],
        ['Rows of the step', step ? `${step.rows} of ${step.batchRows}` : '–'],
        ['KV blocks', String(step?.blocks ?? 0)],
        ['Attended tokens', String(step?.attended ?? 0)],
        ...(step && step.drafted > 0 ? [['Drafts accepted', `${step.accepted} of ${step.drafted}`]] : []),
      ]
      this.figures.replaceChildren(
        ...shown.map(([name = '', value = '']) => {
          return element('div', {}, element('dt', {}, name), element('dd', {}, value))
        }),
      )
    }
  }

  /** @param {PageTurn | undefined} turn */
  function show(turn) {
    if (!turn) return
    const last = Math.max(1, ...turn.answers.map(({ steps }) => (steps.at(-1)?.us ?? 0) / 1000))
    answers = turn.answers.map((answer) => new Answer(answer, last))
    prompt.textContent = turn.prompt
    sides.replaceChildren(...answers.map(({ element }) => element))
    end = Math.ceil(last)
    slider.max = String(end)
    speeds.replaceChildren(
      ...SPEEDS.map((each) =>
        element('option', { value: String(each) }, each === 1 ? 'real time' : `${each}×`),
      ),
    )
    speed = slowest(end)
    speeds.value = String(speed)
    seek(0)
  }

  /** The slowest speed at which an answer still ends in a pleasant time. @param {number} ms */
  function slowest(ms) {
    return SPEEDS.find((each) => ms / each <= PLEASANT) ?? SPEEDS.at(-1) ?? 1
  }

  function start() {
    if (now >= end) seek(0)
    playing = true
    play.textContent = 'Pause'
    drawnAt = performance.now()
    requestAnimationFrame(frame)
  }

  function pause() {
    playing = false
    play.textContent = 'Play'
  }

  /** @param {number} at */
  function frame(at) {
    if (!playing) return
    seek(Math.min(end, now + Math.max(0, at - drawnAt) * speed))
    drawnAt = at
    if (now >= end) pause()
    else requestAnimationFrame(frame)
  }

  /** @param {number} ms */
  function seek(ms) {
    now = ms
    slider.value = String(ms)
    clock.textContent = formatMs(ms)
    for (const answer of answers) answer.seek(ms)
  }

  function facts() {
    return element(
      'dl',
      { class: 'facts' },
      ...data.facts.flatMap(([name, value]) => [element('dt', {}, name), element('dd', {}, value)]),
    )
  }

  function turnButtons() {
    const group = element('div', { class: 'turns', role: 'group', 'aria-label': 'Turns' })
    if (data.turns.length < 2) return group
    const buttons = data.turns.map((turn, index) => {
      const button = element(
        'button',
        { type: 'button', 'aria-pressed': String(index === 0) },
        `Turn ${index + 1}`,
      )
      button.addEventListener('click', () => {
        for (const each of buttons) each.setAttribute('aria-pressed', String(each === button))
        show(turn)
        start()
      })
      return button
    })
    group.append(...buttons)
    return group
  }

  /** A bar for each branch, from its fork to its end. @param {readonly PageStep[]} steps @param {number} last ms */
  function timeLine(steps, last) {
    const width = 1000
    const x = (/** @type {number} */ us) => (us / 1000 / last) * width
    /** @type {Map<number, { from: number, to: number }>} */
    const spans = new Map([[0, { from: steps.find(({ tokens }) => tokens > 0)?.us ?? 0, to: 0 }]])
    for (const { us, forks, ends } of steps) {
      for (const [branch] of forks) spans.set(branch, { from: us, to: 0 })
      for (const [branch] of ends) {
        const span = spans.get(branch)
        if (span) span.to = us
      }
    }
    const height = spans.size * 10
    const chart = svg('svg', {
      viewBox: `0 0 ${width} ${height}`,
      preserveAspectRatio: 'none',
      class: 'line',
    })
    chart.style.height = `${Math.min(220, height)}px`
    chart.setAttribute('role', 'img')
    chart.setAttribute('aria-label', `Time line of ${spans.size} branches`)
    for (const [row, [branch, { from, to }]] of [...spans].entries()) {
      const until = to === 0 ? last * 1000 : to
      const size = { x: x(from), width: Math.max(1, x(until) - x(from)), y: row * 10 + 1, height: 8 }
      chart.append(tinted(branch, svg('rect', size)))
    }
    const cover = svg('rect', { class: 'cover', y: 0, height, x: 0, width })
    chart.append(cover)
    return {
      element: chart,
      seek: (/** @type {number} */ ms) => cover.setAttribute('x', String(x(ms * 1000))),
    }
  }

  /** @param {string} tag @param {Record<string, string | number>} attributes @returns {SVGElement} */
  function svg(tag, attributes) {
    const made = /** @type {SVGElement} */ (document.createElementNS(SVG, tag))
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value))
    return made
  }

  /**
   * Neighbouring numbers get hues that are far apart.
   * @template {HTMLElement | SVGElement} T @param {number} branch @param {T} made @returns {T}
   */
  function tinted(branch, made) {
    if (branch === 0) made.classList.add('root')
    made.style.setProperty('--hue', String(Math.round((160 + branch * 137.5) % 360)))
    return made
  }

  /** @param {number} ms */
  function formatMs(ms) {
    return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`
  }

  /** @param {string} tag @param {Record<string, string>} attributes @param {(Node | string)[]} children */
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag)
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
    made.append(...children)
    return made
  }

  show(data.turns[0])
  if (matchMedia('(prefers-reduced-motion: reduce)').matches) seek(end)
  else start()
})()

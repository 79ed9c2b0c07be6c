/** @typedef {import('./page-data.ts').PageData} PageData */
/** @typedef {import('./page-data.ts').PageToken} PageToken */
/** @typedef {PageToken & { element: HTMLElement, segment: number, position: number }} ShownToken */

;(() => {
  /** @type {PageData} */
  const data = JSON.parse(document.getElementById('data')?.textContent ?? '')
  const { segments, words } = data

  /** Tokens of each segment. @type {ShownToken[][]} */
  const tokens = segments.map(({ tokens, start, forks }, segment) =>
    tokens.map((token, at) => {
      const last = at === tokens.length - 1
      return { ...token, segment, position: start + at, element: tokenElement(token, last ? forks : []) }
    }),
  )
  /** @type {Map<Element, ShownToken>} */
  const tokenOf = new Map(tokens.flat().map((token) => [token.element, token]))

  const tree = element('div', { id: 'tree', role: 'tree', 'aria-label': 'Tokens' })
  const panel = element('output', { id: 'selected', 'aria-live': 'polite' })
  document.body.append(head(), controls(), tree, panel)
  /** Tokens in the order in which they are shown. @type {ShownToken[]} */
  let shown = []
  /** @type {ShownToken | undefined} */
  let focused
  show('document')
  select(undefined)

  /**
   * @param {string} tag @param {Record<string, string>} [attributes] @param {(Node | string)[]} children
   * @returns {HTMLElement}
   */
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag)
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
    made.append(...children)
    return made
  }

  /** @param {PageToken} token @param {readonly number[]} forks branches that begin behind it */
  function tokenElement(token, forks) {
    const made = element('span', { class: 'token', role: 'treeitem', tabindex: '-1' }, token.shown)
    if (token.kind) made.classList.add(token.kind)
    if (token.given) made.classList.add('given')
    if (token.kind === 'partial' || !/[^\s↵]/.test(token.shown)) made.setAttribute('aria-label', token.quoted)
    if (forks.length > 0) made.dataset.forks = `→${forks.join(', ')}`
    return made
  }

  function head() {
    const facts = data.facts.flatMap(([name, value]) => [element('dt', {}, name), element('dd', {}, value)])
    return element('header', {}, element('h1', {}, data.title), element('dl', {}, ...facts))
  }

  function controls() {
    const choices = /** @type {const} */ (['document', 'decode']).map((order) => {
      const input = element('input', { type: 'radio', name: 'order', value: order })
      if (order === 'document') input.setAttribute('checked', '')
      input.addEventListener('change', () => show(order))
      return element('label', {}, input, `${order} order`)
    })
    const legend = [
      element('span', { class: 'token' }, words.written),
      element('span', { class: 'token given' }, words.given),
    ]
    const order = element('fieldset', {}, element('legend', { class: 'unseen' }, 'Order'), ...choices)
    return element('div', { id: 'controls' }, order, element('p', { class: 'legend' }, ...legend))
  }

  /** @param {'document' | 'decode'} order */
  function show(order) {
    shown = []
    tree.replaceChildren(...(order === 'document' ? documentBlocks() : decodeBlocks()))
    focusable(focused ?? shown[0])
  }

  /** Branches inside of one another, each where its fork is. */
  function documentBlocks() {
    /** @type {Map<number, HTMLElement>} */
    const bodies = new Map()
    /** @type {HTMLElement[]} */
    const blocks = []
    for (const index of data.order) {
      const segment = segments[index]
      if (!segment) continue
      let body = bodies.get(segment.branch)
      if (!body) {
        body = element('div', { class: 'body', role: 'group' })
        bodies.set(segment.branch, body)
        const block = branchBlock(segment.branch, segment.depth, body)
        const around = segment.parent === null ? undefined : bodies.get(segments[segment.parent]?.branch ?? 0)
        if (around) around.append(block)
        else blocks.push(block)
      }
      body.append(run(tokens[index] ?? []))
    }
    return blocks
  }

  /** @param {number} branch @param {number} depth @param {HTMLElement} body */
  function branchBlock(branch, depth, body) {
    const count = segments.reduce((sum, own) => sum + (own.branch === branch ? own.tokens.length : 0), 0)
    const about = `${count} ${count === 1 ? 'token' : 'tokens'}, depth ${depth}`
    const name = element('div', { class: 'name' }, element('b', {}, branchName(branch)), ` ${about}`)
    const label = `${branchName(branch)}, ${about}`
    return tinted(
      branch,
      element('div', { class: 'branch', role: 'treeitem', 'aria-label': label }, name, body),
    )
  }

  /** Steps, each group with what every branch writes meanwhile. */
  function decodeBlocks() {
    const blocks = data.phases.map(({ first, last, runs }) => {
      const steps =
        first === last
          ? `step ${first - data.prompt + 1}`
          : `steps ${first - data.prompt + 1}–${last - data.prompt + 1}`
      const lines = runs.map(({ segment, from, to }) => line(segment, from, to))
      return phase(`${steps} · ${runs.length === 1 ? '1 branch' : `${runs.length} branches at once`}`, lines)
    })
    if (data.prompt === 0) return blocks
    return [phase('prompt · computed at once', [line(0, 0, data.prompt)]), ...blocks]
  }

  /** @param {string} name @param {HTMLElement[]} lines */
  function phase(name, lines) {
    const group = element('div', { class: 'body', role: 'group' }, ...lines)
    return element(
      'div',
      { class: 'phase', role: 'treeitem', 'aria-label': name },
      element('div', { class: 'name' }, name),
      group,
    )
  }

  /** @param {number} segment @param {number} from @param {number} to */
  function line(segment, from, to) {
    const branch = segments[segment]?.branch ?? 0
    const label = element('span', { class: 'label', 'aria-label': branchName(branch) }, String(branch))
    return tinted(
      branch,
      element('div', { class: 'line' }, label, run((tokens[segment] ?? []).slice(from, to))),
    )
  }

  /** @param {ShownToken[]} part */
  function run(part) {
    for (const token of part) shown.push(token)
    return element('span', { class: 'run' }, ...part.map(({ element }) => element))
  }

  /** @param {number} branch */
  function branchName(branch) {
    return `branch ${branch}`
  }

  /** Neighbouring numbers get hues that are far apart. @param {number} branch @param {HTMLElement} made */
  function tinted(branch, made) {
    made.classList.toggle('root', branch === 0)
    made.style.setProperty('--hue', String(Math.round((160 + branch * 137.5) % 360)))
    return made
  }

  /** The tokens before it on its path, and itself. @param {ShownToken} token */
  function attendedBy(token) {
    const attended = (tokens[token.segment] ?? []).filter(({ position }) => position <= token.position)
    for (let at = segments[token.segment]?.parent ?? null; at !== null; at = segments[at]?.parent ?? null) {
      attended.push(...(tokens[at] ?? []))
    }
    return attended
  }

  /** @param {ShownToken | undefined} token */
  function select(token) {
    for (const marked of tree.querySelectorAll('.attended')) marked.classList.remove('attended')
    tree.querySelector('[aria-selected]')?.removeAttribute('aria-selected')
    tree.classList.toggle('selecting', token !== undefined)
    if (!token) {
      panel.replaceChildren(
        'Click a token, or go to it with the arrow keys and press Enter: what it attends to is marked.',
      )
      return
    }
    const attended = attendedBy(token)
    for (const { element } of attended) element.classList.add('attended')
    token.element.setAttribute('aria-selected', 'true')
    focusable(token)
    const branch = segments[token.segment]?.branch ?? 0
    const facts = [
      ['position', String(token.position)],
      ...(token.id === undefined ? [] : [['id', String(token.id)]]),
      ['branch', String(branch)],
      ['depth', String(segments[token.segment]?.depth ?? 1)],
      ['', token.given ? words.given : words.written],
      ['attends to', `${attended.length} of ${tokenOf.size} tokens`],
    ]
    const list = facts.map(([name, value = '']) =>
      element('span', {}, ...(name ? [element('i', {}, `${name} `)] : []), value),
    )
    panel.replaceChildren(element('code', {}, token.quoted), ...list.flatMap((fact) => [' ', fact]))
  }

  /** Makes a token the one that Tab reaches. @param {ShownToken | undefined} token */
  function focusable(token) {
    if (focused) focused.element.tabIndex = -1
    focused = token
    if (token) token.element.tabIndex = 0
  }

  /** @param {EventTarget | null} target */
  function tokenAt(target) {
    const found = target instanceof Element ? target.closest('.token') : null
    return found ? tokenOf.get(found) : undefined
  }

  tree.addEventListener('click', (event) => {
    const token = tokenAt(event.target)
    if (token) select(token)
  })

  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') select(undefined)
    const token = tokenAt(event.target)
    if (!token || event.ctrlKey || event.metaKey || event.altKey) return
    const at = shown.indexOf(token)
    if (event.key === 'Enter' || event.key === ' ') select(token)
    else {
      const to = {
        ArrowRight: at + 1,
        ArrowLeft: at - 1,
        Home: 0,
        End: shown.length - 1,
        ArrowDown: nextRun(at, 1),
        ArrowUp: nextRun(at, -1),
      }[event.key]
      const next = to === undefined ? undefined : shown[to]
      if (!next) return
      focusable(next)
      next.element.focus()
    }
    event.preventDefault()
  })

  /** The first token of the run before or after. @param {number} at @param {1 | -1} direction */
  function nextRun(at, direction) {
    const runOf = (/** @type {number} */ index) => shown[index]?.element.parentElement
    let to = at
    while (runOf(to) && runOf(to) === runOf(at)) to += direction
    while (direction < 0 && runOf(to) && runOf(to - 1) === runOf(to)) to -= 1
    return to
  }
})()

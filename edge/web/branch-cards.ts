import type { FinishReason, StreamEvent } from '../../shared/protocol/events.ts'
import { element } from './elements.ts'

const STATES: Record<FinishReason, string> = {
  stop: 'complete',
  length: 'cut at the length limit',
  abort: 'cancelled',
  error: 'failed',
}

/** The branches of one stream as cards. A child's card is below its parent's, siblings are side by side. */
export class BranchCards {
  readonly #cards = new Map<number, BranchCard>()
  readonly #onCancel: (branch: number) => void

  constructor(list: HTMLElement, onCancel: (branch: number) => void) {
    this.#onCancel = onCancel
    list.replaceChildren()
    this.#add(0, list)
  }

  show(event: StreamEvent): void {
    switch (event.type) {
      case 'fork': {
        const parent = this.#cards.get(event.parent)
        if (!parent) return
        parent.addFork(event.branch)
        this.#add(event.branch, parent.childList)
        break
      }
      case 'delta':
        this.#cards.get(event.branch)?.append(event.text)
        break
      case 'branch_end':
        this.#cards.get(event.branch)?.end(event.reason)
        break
    }
  }

  /** Ends every card that has not ended. */
  endAll(reason: FinishReason): void {
    for (const card of this.#cards.values()) card.end(reason)
  }

  #add(branch: number, list: HTMLElement): void {
    const card = new BranchCard(branch, () => this.#onCancel(branch))
    this.#cards.set(branch, card)
    list.append(card.root)
  }
}

class BranchCard {
  readonly root: HTMLLIElement
  readonly childList = element('ol', 'branch-list')
  readonly #text = element('p', 'text')
  readonly #state = element('span', 'state', 'growing')
  readonly #cancel = element('button', '', '✕')
  #tail: Text | undefined

  constructor(branch: number, onCancel: () => void) {
    const name = branch === 0 ? 'Root' : `Branch ${branch}`
    this.root = element('li', 'branch')
    this.root.id = cardId(branch)
    this.root.dataset.state = 'growing'
    this.root.style.setProperty('--hue', String(hueOf(branch)))
    this.#cancel.type = 'button'
    this.#cancel.title = `Cancel ${name.toLowerCase()} and every branch below it`
    this.#cancel.setAttribute('aria-label', this.#cancel.title)
    this.#cancel.addEventListener('click', onCancel)
    const header = element('header')
    header.append(element('h3', '', name), this.#state, this.#cancel)
    const article = element('article')
    article.append(header, this.#text)
    this.root.append(article, this.childList)
  }

  append(text: string): void {
    if (!this.#tail) {
      this.#tail = document.createTextNode('')
      this.#text.append(this.#tail)
    }
    this.#tail.appendData(text)
    this.#text.scrollTop = this.#text.scrollHeight
  }

  /** Adds a link at the place in the text where a child begins. */
  addFork(child: number): void {
    const mark = element('a', 'fork', `↳ ${child}`)
    mark.href = `#${cardId(child)}`
    mark.title = `Branch ${child} begins here`
    mark.style.setProperty('--hue', String(hueOf(child)))
    this.#text.append(mark)
    this.#tail = undefined
  }

  end(reason: FinishReason): void {
    if (this.#cancel.disabled) return
    this.#cancel.disabled = true
    this.root.dataset.state = reason
    this.#state.textContent = STATES[reason]
  }
}

function cardId(branch: number): string {
  return `branch-${branch}`
}

/** Consecutive numbers get hues that are far apart (golden angle). */
function hueOf(branch: number): number {
  return Math.round((160 + branch * 137.5) % 360)
}

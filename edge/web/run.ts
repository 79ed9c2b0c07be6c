import { openStream } from '../../client/index.ts'
import { OrderedText } from '../../shared/branch-tree.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import { BranchCards } from './branch-cards.ts'
import { byId } from './elements.ts'
import { type Figures, FiguresView } from './figures.ts'

/**
 * Sends one request and shows its stream until the end. Aborting `signal` cancels it.
 * @throws AparError when the stream fails; the text that arrived stays on the page.
 */
export async function run(apiKey: string, request: GenerateRequest, signal: AbortSignal): Promise<Figures> {
  const answer = byId('answer', HTMLElement)
  answer.replaceChildren()
  const stream = openStream({ baseUrl: location.origin, apiKey, request, signal })
  const cards = new BranchCards(byId('branches', HTMLElement), (branch) => stream.cancelBranch(branch))
  const figures = new FiguresView(byId('figures', HTMLElement))
  const ordered = new OrderedText()
  try {
    for await (const event of stream) {
      figures.count(event)
      cards.show(event)
      const text = ordered.push(event)
      if (text) answer.append(text)
      if (event.type === 'done') cards.endAll(event.reason)
    }
  } finally {
    cards.endAll(signal.aborted ? 'abort' : 'error')
    figures.stop()
  }
  return figures.figures
}

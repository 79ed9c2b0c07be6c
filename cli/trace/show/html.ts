import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../../../gpu-node/package-root.ts'
import type { TraceStep } from '../../../shared/protocol/trace.ts'
import { ownPage } from '../../html/own-page.ts'
import { withNames } from '../../token-tree/visible.ts'
import type { TraceOfQuestion } from '../trace-file.ts'
import type { PageData, PageStep, PageTurn } from './page/page-data.ts'

/** A page of its own in which the answers to a question grow: those of both modes side by side, on one clock. */
export function tracePage(traces: readonly TraceOfQuestion[]): string {
  const read = (name: string) => readFileSync(join(packageRoot, 'cli/trace/show/page', name), 'utf8')
  const data = pageData(traces)
  return ownPage({ title: data.title, style: read('page.css'), script: read('page.js'), data })
}

export function pageData(traces: readonly TraceOfQuestion[]): PageData {
  const [first] = traces
  if (!first) throw new Error('no trace to show')
  const { id, category, model } = first.head
  const devices = new Set(traces.flatMap(({ turns }) => turns.map(({ begin }) => begin.fingerprint ?? '')))
  const facts: [string, string][] = [
    ['model', model],
    ['category', category],
    ['fingerprint', [...devices].join(', ')],
  ]
  const turns: PageTurn[] = []
  for (const { head, turns: answered } of traces) {
    for (const { begin, steps } of answered) {
      const at = begin.turn - 1
      turns[at] ??= { prompt: withNames(begin.prompt), answers: [] }
      turns[at] = {
        ...turns[at],
        answers: [...turns[at].answers, { mode: head.mode, steps: steps.map(pageStep) }],
      }
    }
  }
  const shown = (text: string) => withNames(text).replace(/\s+/g, ' ')
  return {
    title: shown(`${id}: ${first.turns[0]?.begin.prompt ?? ''}`).slice(0, 120),
    facts: facts.filter(([, value]) => value !== '').map(([name, value]) => [name, shown(value)] as const),
    turns: turns.filter((turn) => turn !== undefined),
  }
}

function pageStep(step: TraceStep): PageStep {
  const { us, live, rows, batch_rows, blocks, attended, drafted = 0, accepted = 0 } = step
  return {
    ...{ us, step: step.step, live, rows, batchRows: batch_rows, blocks, attended, drafted, accepted },
    tokens: step.tokens.reduce((sum, { ids }) => sum + ids.length, 0),
    texts: step.tokens.flatMap(({ branch, text }) =>
      text === '' ? [] : [[branch, withNames(text)] as const],
    ),
    forks: step.forks.map(({ branch, parent }) => [branch, parent] as const),
    ends: step.ends.map(({ branch, reason }) => [branch, reason] as const),
  }
}

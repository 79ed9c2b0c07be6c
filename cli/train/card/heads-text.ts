import { basename, isAbsolute } from 'node:path'
import { parseHubName } from '../../models/hub/hub-name.ts'
import { showCount } from '../../models/show.ts'
import { headsOf, lastAccuracies, TOP } from '../head-metrics.ts'
import type { Invocation } from '../invocations.ts'
import type { RunLog } from '../run-log.ts'
import { frontMatterOf } from './front-matter.ts'
import { markdownTable } from './markdown-table.ts'

interface HeadsParts {
  readonly name: string
  readonly license: string | undefined
  readonly invocations: readonly Invocation[]
  readonly log: RunLog
}

export function headsFrontMatter({ license, invocations }: HeadsParts): string {
  const model = invocations.at(-1)?.model ?? ''
  return frontMatterOf([
    ...(license === undefined ? [] : [`license: ${license}`]),
    ...(parseHubName(model) ? [`base_model: ${model.replace(/[@:].*$/, '')}`] : []),
    'pipeline_tag: text-generation',
    'tags: [apar, medusa, speculative-decoding]',
  ])
}

const KINDS = {
  own: 'each ends with a matrix of its own',
  shared: "they share the model's output matrix",
  conditioned: "they read the token behind the hidden state, too, and share the model's output matrix",
} as const

export function headsIntroduction({ name, license, invocations, log }: HeadsParts): string {
  const { parameters, trained } = log.begun
  const { model = '', adapter, settings = {} } = invocations.at(-1) ?? {}
  const tuned = adapter === undefined ? '' : `, tuned by ${basename(adapter)}`
  const count = headsOf(log)
  const kind = KINDS[settings.kind as keyof typeof KINDS] ?? KINDS.conditioned
  const text = `${count} Medusa heads of ${showCount(trained)} parameters in all for ${shownName(model)} (${showCount(parameters)} parameters)${tuned}; ${kind}. Head i, counted from 0, drafts the token i + 2 ahead, and the model, which was not changed, verifies it: the heads change how fast it answers, not what.`
  const note = license === undefined ? ' The licence is that of the base model and of the data.' : ''
  return `# ${name}\n\n${text}${note}`
}

export function headsUse({ name, invocations }: HeadsParts): string {
  const { model = '', adapter } = invocations.at(-1) ?? {}
  const tuned = adapter === undefined ? '' : ` --adapter ${basename(adapter)}`
  const serve = `apar serve --model ${shownName(model)}${tuned} --medusa ${name}`
  return `## Use\n\n\`\`\`sh\n${serve}\n\`\`\`\nAs a folder \`medusa/\` inside of the model's it is found by itself.`
}

/** As rows of the card's table of losses. */
export function headLosses(log: RunLog): [string, string][] {
  return Array.from({ length: headsOf(log) }, (_, head) => head).flatMap((head): [string, string][] => [
    [`head_${head}_loss`, `in training, head ${head}`],
    [`held_out_head_${head}_loss`, `held out, head ${head}`],
  ])
}

/** How often a target was among a head's likeliest tokens at last; empty for other runs. */
export function headsAccuracy(log: RunLog): string {
  const heads = lastAccuracies(log)
  if (heads === undefined) return ''
  const rows = heads.map((values, head) => [`head ${head}`, ...values.map((value) => value.toFixed(3))])
  const table = markdownTable(['', ...TOP.map((k) => `top ${k}`)], rows)
  return `\n\n### Accuracy on held-out data\n\nHow often the token i + 2 ahead was among the k likeliest of head i:\n\n${table}`
}

function shownName(model: string): string {
  return isAbsolute(model) ? basename(model) : model
}

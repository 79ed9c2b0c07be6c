import { createRequire } from 'node:module'
import { type Command, Option } from 'commander'
import { packageRoot } from '../gpu-node/package-root.ts'
import { addExamples, withoutVariables } from './help.ts'
import { applyConfigFile } from './settings/config-file.ts'
import { Program } from './settings/environment.ts'

const { version } = createRequire(import.meta.url)(`${packageRoot}/package.json`) as { version: string }

type Register = (program: Command) => void

const COMMANDS: Readonly<Record<string, () => Promise<Register>>> = {
  serve: async () => (await import('./commands/serve.ts')).registerServe,
  chat: async () => (await import('./commands/chat.ts')).registerChat,
  edge: async () => (await import('./commands/edge.ts')).registerEdge,
  'gpu-node': async () => (await import('./commands/gpu-node.ts')).registerGpuNode,
  keys: async () => (await import('./commands/keys.ts')).registerKeys,
  feedback: async () => (await import('./commands/feedback.ts')).registerFeedback,
  model: async () => (await import('./commands/model.ts')).registerModel,
  data: async () => (await import('./data/index.ts')).registerData,
  train: async () => (await import('./commands/train.ts')).registerTrain,
  trace: async () => (await import('./trace/command.ts')).registerTrace,
  bench: async () => (await import('./bench/command.ts')).registerBench,
  engine: async () => (await import('./commands/engine.ts')).registerEngine,
  doctor: async () => (await import('./commands/doctor.ts')).registerDoctor,
}

/**
 * The program `apar`, with all its commands.
 * @param first the first argument; if it is the name of a command, the code of the others is not loaded.
 */
export async function createProgram(first?: string): Promise<Command> {
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
    .hook('preAction', (_, action) => applyConfigFile(action, program.opts<{ config?: string }>().config))

  const only = first !== undefined && Object.hasOwn(COMMANDS, first) ? COMMANDS[first] : undefined
  for (const register of await Promise.all((only ? [only] : Object.values(COMMANDS)).map((load) => load())))
    register(program)
  if (!only) {
    const { default: tab } = await import('@bomb.sh/tab/commander')
    tab(program, { completionCommandName: 'completion' })
  }
  addExamples(program)
  return program
}

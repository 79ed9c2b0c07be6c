import { Command, type Option } from 'commander'
import { commandName } from './command-name.ts'

/** Values of a variable that leave a switch off. */
const OFF = new Set(['0', 'false', 'no', 'off'])

/** What `--config` is called when no file counts. */
export const NO_FILE = 'none'

const byRule = new WeakSet<Option>()

/** Whether the variable of an option has a name of its own. */
export function hasOwnVariable(option: Option): boolean {
  return option.envVar !== undefined && !byRule.has(option)
}

/**
 * Every option of its commands has a variable, `APAR_SERVE_PORT` for `apar serve --port`, if not one of another name. A
 * variable that is empty counts as not set.
 */
export class Program extends Command {
  override createCommand(name?: string): Command {
    return new Program(name)
  }

  override addOption(option: Option): this {
    if (this.parent && option.envVar === undefined) {
      option.env(variableOf(this, option))
      byRule.add(option)
    }
    if (option.envVar !== undefined && isOff(option, process.env[option.envVar])) {
      delete process.env[option.envVar]
    }
    return super.addOption(option)
  }
}

/**
 * The environment for a process that runs `command` with settings of its parent: no variable and no file of the user
 * sets anything else.
 */
export function withoutSettingsOf(command: string, env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  const prefix = prefixOf(command)
  const kept = Object.entries(env).filter(([name]) => !name.startsWith(prefix))
  return { ...Object.fromEntries(kept), APAR_CONFIG: NO_FILE }
}

function prefixOf(command: string): string {
  return `APAR_${command}_`.toUpperCase().replaceAll(/[ -]/g, '_')
}

function variableOf(command: Command, option: Option): string {
  return `${prefixOf(commandName(command))}${option.name().toUpperCase().replaceAll('-', '_')}`
}

function isOff(option: Option, value: string | undefined): boolean {
  return value === '' || (value !== undefined && option.isBoolean() && OFF.has(value.toLowerCase()))
}

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Option } from 'commander'
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest'
import { integer } from '../../../cli/options.ts'
import { applyConfigFile, ownConfigFile } from '../../../cli/settings/config-file.ts'
import { Program, withoutSettingsOf } from '../../../cli/settings/environment.ts'

const folder = mkdtempSync(join(tmpdir(), 'apar-settings-'))
const file = join(folder, 'config.json')
afterAll(() => rmSync(folder, { recursive: true }))
afterEach(() => vi.unstubAllEnvs())

/** The options that `apar ARGS` runs with. */
async function run(args: string[], config?: unknown): Promise<Record<string, unknown>> {
  if (config !== undefined) writeFileSync(file, JSON.stringify(config))
  let options: Record<string, unknown> = {}
  const program = new Program('apar').exitOverride().configureOutput({ writeErr: () => {} })
  program.hook('preAction', (_, action) => applyConfigFile(action, config === undefined ? 'none' : file))
  program
    .command('serve')
    .option('--port <port>', '', integer(0, 65535), 8787)
    .option('--quiet', '')
    .option('--no-cache', '')
    .option('--rule <name...>', '')
    .addOption(new Option('--device <device>', '').choices(['cpu', 'cuda']))
    .addOption(new Option('--secret <text>', '').env('THE_SECRET'))
    .action((flags) => {
      options = flags
    })
  const train = program.command('train')
  train
    .command('sft')
    .option('--lora <rank>', '', integer(1, 64))
    .action((flags) => {
      options = flags
    })
  await program.parseAsync(args, { from: 'user' })
  return options
}

describe('an option', () => {
  test('comes from the command line, else a variable, else the file, else its default', async () => {
    const config = { serve: { port: 3 } }
    expect(await run(['serve'])).toMatchObject({ port: 8787 })
    expect(await run(['serve'], config)).toMatchObject({ port: 3 })
    vi.stubEnv('APAR_SERVE_PORT', '2')
    expect(await run(['serve'], config)).toMatchObject({ port: 2 })
    expect(await run(['serve', '--port', '1'], config)).toMatchObject({ port: 1 })
  })

  test('has the variable of its command, or the one that it had', async () => {
    vi.stubEnv('APAR_TRAIN_SFT_LORA', '8')
    vi.stubEnv('THE_SECRET', 's')
    expect(await run(['train', 'sft'])).toEqual({ lora: 8 })
    expect(await run(['serve'])).toMatchObject({ secret: 's' })
  })

  test('is not set by a variable that is empty, nor a switch by one that says no', async () => {
    vi.stubEnv('APAR_SERVE_PORT', '')
    vi.stubEnv('APAR_SERVE_QUIET', 'false')
    expect(await run(['serve'])).toEqual({ port: 8787, cache: true })
    vi.stubEnv('APAR_SERVE_QUIET', '1')
    expect(await run(['serve'])).toMatchObject({ quiet: true })
  })

  test('may be of any kind in the file', async () => {
    const config = {
      serve: { quiet: true, 'no-cache': true, rule: ['a', 'b'], device: 'cpu' },
      'train sft': { lora: 4 },
    }
    expect(await run(['serve'], config)).toMatchObject({
      quiet: true,
      cache: false,
      rule: ['a', 'b'],
      device: 'cpu',
    })
    expect(await run(['train', 'sft'], config)).toEqual({ lora: 4 })
  })

  test.each([
    [{ serv: {} }, 'there is no command "serv"'],
    [{ serve: { prot: 1 } }, 'apar serve has no option --prot'],
    [{ serve: { port: 'x' } }, 'serve: --port: a whole number from 0 to 65535 is needed'],
    [{ serve: { port: [1, 2] } }, 'serve: --port: one value is needed'],
    [{ serve: { port: true } }, 'serve: --port: a value is needed'],
    [{ serve: { quiet: 'yes' } }, 'serve: --quiet: true or false is needed'],
    [{ serve: { device: 'tpu' } }, 'serve: --device: Allowed choices are cpu, cuda'],
    [{ serve: { port: null } }, 'serve.port'],
    [[], 'expected record'],
  ])('%j in the file is refused', async (config, message) => {
    await expect(run(['serve'], config)).rejects.toMatchObject({
      code: 'invalid_config',
      message: expect.stringContaining(`${file}: `),
    })
    await expect(run(['serve'], config)).rejects.toThrow(message)
  })

  test('of a variable is refused as on the command line', async () => {
    vi.stubEnv('APAR_SERVE_PORT', 'x')
    await expect(run(['serve'])).rejects.toThrow(/from env 'APAR_SERVE_PORT' is invalid/)
  })
})

test('the file of a user lies where the system keeps settings', () => {
  expect(ownConfigFile({ XDG_CONFIG_HOME: '/c' })).toBe('/c/apar/config.json')
  expect(ownConfigFile({})).toMatch(/\.config\/apar\/config\.json$/)
})

test('a process with settings of its parent has no others', () => {
  const env = { APAR_GPU_NODE_EDGE: 'x', APAR_SERVE_PORT: '1', PATH: '/bin', APAR_CONFIG: '/c' }
  expect(withoutSettingsOf('gpu-node', env)).toEqual({
    APAR_SERVE_PORT: '1',
    PATH: '/bin',
    APAR_CONFIG: 'none',
  })
})

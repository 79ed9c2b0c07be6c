// Serves the demo model, and lets others' tools ask it: schemathesis, with all its checks, Python clients, and load and
// evaluation tools; then a model that answers as a script says, for the loops of agents. CI runs it after `npm test`. The
// tools are installed once, in environments of their own.
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build } from 'esbuild'
import { fail, info, root, run } from './setup/report.mjs'
import { serve } from './setup/served.mjs'

const FOLDER = join(root, 'test/clients')
const DEMO = join(root, 'models/demo')

const python = await environment('requirements.lock')
// Not everybody's pip finds torch's build for CPUs.
const loadTools = await environment('load-tools.lock', process.env.CI !== 'true')
const adminKey = randomBytes(24).toString('base64url')
// Schemathesis keeps what failed in the folder in which it runs.
const scratch = mkdtempSync(join(tmpdir(), 'apar-clients-'))
let failed = 0
try {
  await served(DEMO, 'demo', async (server) => {
    info('schemathesis: all checks on the OpenAPI document ...')
    const config = ['--config-file', join(FOLDER, 'schemathesis.toml')]
    const checks = ['run', `${server.url}/openapi.json`, '--url', server.url, '--checks', 'all']
    failed += await step(server, ['-m', 'schemathesis.cli', ...config, ...checks])
    info('Python clients ...')
    failed += await step(server, [join(FOLDER, 'sdks.py')])
    failed += await step(server, [join(root, 'examples/openai-python.py')])
    if (loadTools) {
      info('load and evaluation tools ...')
      failed += await step(server, [join(FOLDER, 'load_tools.py')], loadTools)
    }
  })
  const model = await agentCheckpoint()
  try {
    await served(model, 'scripted', async (server) => {
      info('loops of agents ...')
      failed += await step(server, [join(FOLDER, 'agent_loops.py')])
    })
  } finally {
    rmSync(model, { recursive: true })
  }
} finally {
  rmSync(scratch, { recursive: true })
}
process.exit(failed === 0 ? 0 : 1)

async function served(model, name, ask) {
  const options = ['--model', model, '--name', name, '--requests-per-minute', '1000000']
  const server = await serve(options, { APAR_ADMIN_KEY: adminKey })
  try {
    await ask(server)
  } finally {
    await server.close()
  }
}

async function step(server, args, interpreter = python) {
  const env = {
    ...process.env,
    APAR_URL: server.url,
    APAR_KEY: server.key,
    APAR_API_KEY: server.key,
    APAR_ADMIN_KEY: adminKey,
    APAR_HOOKS: join(FOLDER, 'hooks.py'),
    APAR_TOKENIZER: DEMO,
    PYTHONDONTWRITEBYTECODE: '1',
  }
  return (await run(interpreter, args, { show: true, env, cwd: scratch })).code
}

/** The folder of the model whose answers are a script. */
async function agentCheckpoint() {
  const outfile = join(scratch, 'agent-script.mjs')
  const entryPoints = [join(FOLDER, 'agent-script.ts')]
  await build({ entryPoints, outfile, bundle: true, platform: 'node', format: 'esm', logLevel: 'warning' })
  return (await import(pathToFileURL(outfile))).agentCheckpoint()
}

/**
 * The Python of the lock file's environment, which is made where it is missing; undefined where that fails and the
 * environment is not needed.
 */
async function environment(lockName, isOptional = false) {
  const base = process.env.PYTHON || 'python3'
  const version = await run(base, ['-c', 'import sys; print("%d.%d" % sys.version_info[:2])'])
  if (version.code !== 0) skip('python3 with venv and pip')
  const lockFile = join(FOLDER, lockName)
  const lock = createHash('sha256').update(readFileSync(lockFile)).digest('hex').slice(0, 12)
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'apar/clients')
  const folder = join(cache, `${lock}-python${version.output.trim()}`)
  if (existsSync(join(folder, 'complete/bin/python'))) return join(folder, 'complete/bin/python')
  info(`installing ${lockFile} in ${folder} (once) ...`)
  const making = join(folder, `making-${process.pid}`)
  if ((await run(base, ['-m', 'venv', '--copies', making])).code !== 0) skip('python3-venv')
  const pip = ['-m', 'pip', '--disable-pip-version-check', '--no-input', 'install', '--only-binary', ':all:']
  // The lock has all of them; some say that others should be older.
  const installed = await run(join(making, 'bin/python'), [...pip, '-q', '--no-deps', '-r', lockFile])
  if (installed.code !== 0) {
    process.stderr.write(installed.output)
    rmSync(making, { recursive: true, force: true })
    if (!isOptional) fail(`${lockFile} could not be installed`)
    info(`skipped: what ${lockFile} lists is not tried`)
    return undefined
  }
  // Only python -m is used: scripts in bin/ keep the old path.
  renameSync(making, join(folder, 'complete'))
  return join(folder, 'complete/bin/python')
}

function skip(what) {
  const reason = `the clients are not tried: install ${what}`
  if (process.env.CI === 'true') fail(reason)
  info(`skipped: ${reason}`)
  process.exit(0)
}

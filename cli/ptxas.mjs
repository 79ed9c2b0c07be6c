// Compiles every source of libapar_cuda.so that needs nvcc, and reads what ptxas reports: no kernel spills registers, and
// none uses more than its blocks on a multiprocessor leave it (native/ops/cuda/ptxas-ceilings.json). Needs no GPU. CI runs
// it after `npm test`; without nvcc on the PATH it fetches one (cli/ptxas/requirements.lock).
//   npm run test:ptxas                      everything
//   npm run test:ptxas -- gemm/mma.cu       one file
//   npm run -s test:ptxas -- --json         the table as JSON
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { CEILINGS, judge, MOST_THREADS } from './ptxas/ceilings.mjs'
import { buildOptions, findNvcc } from './ptxas/nvcc.mjs'
import { parseReport, parseThreads, shortName } from './ptxas/report.mjs'
import { fail, info, root, run } from './setup/report.mjs'

const FOLDER = join(root, 'native/ops/cuda')
/** Of the library's other sources, the emulator has all: they are compiled with the tests. */
const HOST_SOURCES = ['library/exports.cpp']

const { values, positionals } = parseArgs({ allowPositionals: true, options: { json: { type: 'boolean' } } })
const kernelFiles = readdirSync(FOLDER, { recursive: true })
  .filter((name) => name.endsWith('.cu'))
  .sort()
const unknown = positionals.find((name) => !kernelFiles.includes(name))
if (unknown) fail(`there is no ${unknown} in native/ops/cuda: name some of ${kernelFiles.join(', ')}`)
const files = positionals.length > 0 ? positionals : kernelFiles
const sources = positionals.length > 0 ? files : [...files, ...HOST_SOURCES]

const found = await findNvcc()
if (!('nvcc' in found)) {
  if ('output' in found) process.stderr.write(found.output)
  const how = 'missing' in found ? `: to fetch it install ${found.missing}` : ', and it could not be fetched'
  const reason = `what ptxas reports is not checked: there is no nvcc${how}`
  if (process.env.CI === 'true') fail(reason)
  info(`skipped: ${reason}`)
  process.exit(0)
}
const { options, architectures } = buildOptions()
info(
  `${sources.length} sources for ${architectures.map((each) => `sm_${each}`).join(' and ')}, nvcc from ${found.source} ...`,
)

const scratch = mkdtempSync(join(tmpdir(), 'apar-ptxas-'))
let compiled
try {
  compiled = await compileAll()
} finally {
  rmSync(scratch, { recursive: true })
}
const ceilings = JSON.parse(readFileSync(join(root, CEILINGS), 'utf8')).kernels
const { problems, notes, rows } = judge(compiled, ceilings, files, kernelFiles)
if (values.json) console.log(JSON.stringify({ problems, notes, kernels: rows }, undefined, 2))
else printTable(rows)
for (const note of notes) info(`allowed: ${note}`)
for (const problem of problems) console.error(`apar: ${problem}`)
if (problems.length > 0) fail(`ptxas: ${problems.length} problems`)
info(`ptxas: ${rows.length} kernels are within their ceilings`)

/** As many at a time as there are processors, the longest files first. */
async function compileAll() {
  const waiting = [...sources].sort((a, b) => statSync(join(FOLDER, b)).size - statSync(join(FOLDER, a)).size)
  const functions = []
  await Promise.all(
    Array.from({ length: availableParallelism() }, async () => {
      for (let file = waiting.shift(); file; file = waiting.shift()) functions.push(...(await compile(file)))
    }),
  )
  return functions.sort((a, b) => a.file.localeCompare(b.file) || a.name.localeCompare(b.name))
}

async function compile(file) {
  const kept = mkdtempSync(join(scratch, 'file-'))
  const code = architectures.map((each) => `-gencode=arch=compute_${each},code=sm_${each}`)
  const { code: status, output } = await run(found.nvcc, [
    ...['-c', ...code, ...options, '-Xptxas', '-v', '--keep', '--keep-dir', kept],
    ...['-I', join(root, 'native'), join(FOLDER, file), '-o', join(kept, 'object.o')],
  ])
  if (status !== 0) {
    process.stderr.write(output)
    fail(`${file} does not compile`)
  }
  const reports = parseReport(output)
  const names = await demangled(reports.map(({ symbol }) => symbol))
  const threads = new Map()
  for (const name of readdirSync(kept).filter((each) => each.endsWith('.ptx')))
    for (const [symbol, count] of parseThreads(readFileSync(join(kept, name), 'utf8')))
      threads.set(symbol, count)
  return reports.map((report, i) => ({
    file,
    name: shortName(names[i]),
    threads: threads.get(report.symbol) ?? MOST_THREADS,
    report,
  }))
}

async function demangled(symbols) {
  if (symbols.length === 0) return []
  const { code, output } = await run('c++filt', symbols)
  if (code !== 0) fail('c++filt is missing, which comes with the linker (Debian: apt-get install binutils)')
  return output.trim().split('\n')
}

function printTable(all) {
  const header = [
    'file',
    'kernel',
    'arch',
    'threads',
    'blocks',
    'registers',
    'ceiling',
    'spills',
    'stack',
    'shared',
  ]
  const cells = all.map((row) => [
    ...[row.file, row.kernel, row.architecture, row.threads, row.blocks ?? '-', row.registers],
    ...[row.ceiling ?? '-', row.spillBytes, row.stackBytes, row.sharedBytes],
  ])
  const lines = [header, ...cells].map((line) => line.map(String))
  const widths = header.map((_, column) => Math.max(...lines.map((line) => line[column].length)))
  for (const line of lines)
    console.log(
      line
        .map((cell, column) => (column < 3 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])))
        .join('  ')
        .trimEnd(),
    )
}

// Compares what ptxas reports with native/ops/cuda/ptxas-ceilings.json.

export const CEILINGS = 'native/ops/cuda/ptxas-ceilings.json'

/** Of a quarter of a multiprocessor, on sm_80 and sm_90 alike; registers are given to a thread eight at a time. */
const REGISTERS = 16_384
const QUARTERS = 4
const WARP = 32
const UNIT = 8
const MOST_REGISTERS = 255
export const MOST_THREADS = 1024

/** Warps stay in their quarter: of nine, one has three and its registers must suffice for them. */
export function registerCeiling(threads, blocks) {
  const warps = Math.ceil((Math.ceil(threads / WARP) * blocks) / QUARTERS)
  const each = REGISTERS / (warps * WARP)
  return Math.min(MOST_REGISTERS, Math.floor(each / UNIT) * UNIT)
}

function mostBlocks(threads, registers) {
  let blocks = 1
  while (blocks < 32 && registerCeiling(threads, blocks + 1) >= registers) ++blocks
  return blocks
}

export function judge(compiled, ceilings, files, all) {
  const problems = [],
    notes = [],
    rows = []
  const unused = new Map()
  for (const [file, entries] of Object.entries(ceilings))
    for (const [pattern, entry] of Object.entries(entries))
      if (files.includes(file)) unused.set(`${file}\n${pattern}`, { file, pattern, entry, stack: 0 })
  for (const { file, name, threads, report } of compiled) {
    const where = `${file}: ${name} on ${report.architecture}`
    const pattern = patternOf(name, Object.keys(ceilings[file] ?? {}))
    const entry = pattern === undefined ? undefined : entryOf(ceilings[file][pattern])
    if (report.isKernel && !entry) {
      const [first, ...others] = compiled.filter((each) => each.file === file && each.name === name)
      if (first.report === report) problems.push(missing(file, name, [first, ...others]))
    } else if (report.isKernel) {
      const used = unused.get(`${file}\n${pattern}`)
      used.found = true
      used.stack = Math.max(used.stack, report.stackBytes)
    }
    const ceiling = entry && report.isKernel ? registerCeiling(threads, entry.blocks) : undefined
    rows.push({ file, kernel: name, threads, blocks: entry?.blocks, ceiling, ...report })
    if (ceiling !== undefined && report.registers > ceiling)
      problems.push(
        `${where} uses ${report.registers} registers: with more than ${ceiling}, ${entry.blocks} blocks of ${threads} threads do not run on a multiprocessor at once. Make it use fewer, or plan fewer blocks in ${CEILINGS}`,
      )
    const stack = entry?.stack ?? 0
    if (report.stackBytes > stack || (report.spillBytes > 0 && stack === 0))
      problems.push(`${where} ${stackUse(report)}${stack > 0 ? `: ${stack} are allowed` : ''}`)
    if (report.changedWgmma)
      problems.push(
        `${where} waits for its wgmma more often than it says (docs/adr/0084): ${report.changedWgmma}`,
      )
    if (report.sharedBytes > (entry?.shared ?? 0))
      problems.push(
        `${where} has ${report.sharedBytes} bytes of static shared memory, ${entry?.shared ?? 0} are planned ("shared" in ${CEILINGS})`,
      )
  }
  for (const { file, pattern, entry, found, stack } of unused.values()) {
    const allowed = entryOf(entry)
    if (!found) {
      const kernels = [...new Set(compiled.filter((each) => each.file === file).map(({ name }) => name))]
      problems.push(
        `${CEILINGS}: "${pattern}" of "${file}" names no kernel. Delete it or rename it; that file has: ${kernels.join('; ')}`,
      )
    } else if (allowed.stack !== undefined && stack === 0) {
      problems.push(
        `${CEILINGS}: "${pattern}" of "${file}" needs no stack any more: delete "stack" and "why"`,
      )
    } else if (allowed.stack !== undefined) {
      notes.push(
        `${file}: ${pattern} has up to ${stack} bytes of stack: ${allowed.why ?? 'without a reason'}`,
      )
      if (!allowed.why) problems.push(`${CEILINGS}: "${pattern}" of "${file}" must say "why" it has a stack`)
    }
  }
  for (const file of Object.keys(ceilings))
    if (!all.includes(file)) problems.push(`${CEILINGS}: there is no ${file}: delete or rename it`)
  return { problems, notes, rows }
}

function missing(file, name, versions) {
  const allowed = versions.map(
    ({ threads, report: { architecture, registers } }) =>
      `${registers} registers on ${architecture} allow ${mostBlocks(threads, registers)}`,
  )
  return `${file}: ${name} has no entry in ${CEILINGS}. Add "${name}": BLOCKS to "${file}", BLOCKS being how many of its blocks, of ${versions[0].threads} threads, are planned to run on a multiprocessor at once (today's ${allowed.join(', ')})`
}

function stackUse({ stackBytes, spillBytes }) {
  return spillBytes > 0
    ? `spills registers: ${spillBytes} bytes stored and loaded, ${stackBytes} bytes of stack`
    : `has ${stackBytes} bytes of stack: a local array that is indexed at run time, or is passed by its address`
}

function entryOf(entry) {
  return typeof entry === 'number' ? { blocks: entry } : entry
}

/** The name itself, else the longest pattern that matches it. */
function patternOf(name, patterns) {
  const matching = patterns.filter((pattern) => {
    const parts = pattern.split('*').map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'))
    return new RegExp(`^${parts.join('.*')}$`).test(name)
  })
  return matching.sort((a, b) => (b === name) - (a === name) || b.length - a.length)[0]
}

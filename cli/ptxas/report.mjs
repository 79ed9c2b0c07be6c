// Reads what ptxas -v reports, and the PTX that it was given.

export function parseReport(text) {
  const reports = []
  let architecture, kernel, report
  for (const line of text.split('\n')) {
    const entry = /Compiling entry function '(.+)' for '(sm_\w+)'/.exec(line)
    const properties = /Function properties for (\S+)/.exec(line)
    const memory = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line)
    const used = /: Used (\d+) registers/.exec(line)
    if (entry) {
      requireUsed(kernel)
      ;[, kernel, architecture] = entry
    } else if (properties) {
      const [, symbol] = properties
      report = { symbol, architecture, isKernel: symbol === kernel, registers: 0, sharedBytes: 0 }
    } else if (memory) {
      if (!report) throw new Error(`ptxas' report is not understood: ${line.trim()}`)
      const [stackBytes, stores, loads] = memory.slice(1).map(Number)
      reports.push(Object.assign(report, { stackBytes, spillBytes: stores + loads }))
      report = undefined
    } else if (used) {
      const of = reports.findLast((each) => each.symbol === kernel && each.architecture === architecture)
      if (!of) throw new Error(`ptxas' report is not understood: ${line.trim()}`)
      of.registers = Number(used[1])
      of.sharedBytes = Number(/(\d+) bytes smem/.exec(line)?.[1] ?? 0)
      kernel = undefined
    }
  }
  requireUsed(kernel)
  for (const [, change, symbol] of text.matchAll(/\(C75\d\d\) (.*) in (?:the )?function '(\w+)'/g))
    for (const each of reports)
      if (each.symbol === symbol && each.architecture.startsWith('sm_90')) each.changedWgmma = change
  return reports
}

function requireUsed(kernel) {
  if (kernel) throw new Error(`ptxas' report has no registers of ${kernel}`)
}

export function parseThreads(ptx) {
  const threads = new Map()
  for (const [, symbol, directives] of ptx.matchAll(/\.entry (\w+)\([^)]*\)([^{]*)\{/g)) {
    const bounds = /\.maxntid (\d+)(?:, (\d+))?(?:, (\d+))?/.exec(directives)
    if (bounds)
      threads.set(
        symbol,
        bounds.slice(1).reduce((product, size) => product * Number(size ?? 1), 1),
      )
  }
  return threads
}

export function shortName(demangled) {
  const name = demangled
    .replaceAll('(anonymous namespace)::', '')
    .replaceAll(/\bapar::(cuda::)?/g, '')
    .replaceAll(/> +(?=>)/g, '>')
  let depth = 0
  let begin = 0
  for (let i = 0; i < name.length; ++i) {
    if (name[i] === '<') ++depth
    else if (name[i] === '>') --depth
    else if (depth === 0 && name[i] === ' ') begin = i + 1
    else if (depth === 0 && name[i] === '(') return name.slice(begin, i)
  }
  return name.slice(begin)
}

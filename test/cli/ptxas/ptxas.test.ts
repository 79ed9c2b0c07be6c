// The check of registers on a report that ptxas made of two kernels: one spills, and one has an array in its stack.
import { expect, test } from 'vitest'
import { judge, registerCeiling } from '../../../cli/ptxas/ceilings.mjs'
import { buildOptions } from '../../../cli/ptxas/nvcc.mjs'
import { parseReport, parseThreads, shortName } from '../../../cli/ptxas/report.mjs'

const SPILLS =
  '_ZN4apar4cuda37_GLOBAL__N__6a91ca27_6_mma_cu_62af1c4110gemm_tilesINS0_9Int4TilesELi128ELb1EEEvNS0_8GemmCallEi'
const INDEXES = '_ZN4apar4cuda38_GLOBAL__N__b121913d_7_draw_cu_7991987611draw_rowsEPKfi'
const REPORT = `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '${SPILLS}' for 'sm_80'
ptxas info    : Function properties for ${SPILLS}
    96 bytes stack frame, 168 bytes spill stores, 152 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 96 bytes cumulative stack size, 500 bytes cmem[0]
ptxas info    : Compile time = 1219.771 ms
ptxas info    : Compiling entry function '${INDEXES}' for 'sm_80'
ptxas info    : Function properties for ${INDEXES}
    48 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 85 registers, used 1 barriers, 48 bytes cumulative stack size, 2048 bytes smem, 384 bytes cmem[0]
ptxas info    : Compile time = 267.407 ms
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '${INDEXES}' for 'sm_90a'
ptxas info    : Function properties for ${INDEXES}
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 65 registers, used 1 barriers
ptxas info    : Compile time = 267.407 ms
`

const NAMES: Record<string, string> = {
  [SPILLS]: 'gemm_tiles<Int4Tiles, 128, true>',
  [INDEXES]: 'draw_rows',
}
const FILE = 'gemm/mma.cu'
const FILES = [FILE]

function compiled(text = REPORT) {
  return parseReport(text).map((report) => ({
    file: FILE,
    name: NAMES[report.symbol] ?? report.symbol,
    threads: report.symbol === SPILLS ? 128 : 512,
    report,
  }))
}

const problems = (entries: Parameters<typeof judge>[1][string], text = REPORT) =>
  judge(compiled(text), { [FILE]: entries }, FILES, FILES).problems

const GOOD = {
  'gemm_tiles<*>': { blocks: 2, stack: 96, why: 'a test' },
  draw_rows: { blocks: 1, stack: 48, shared: 2048, why: 'a test' },
}

test('the report of each kernel and architecture', () => {
  expect(parseReport(REPORT)).toEqual([
    {
      ...{ symbol: SPILLS, architecture: 'sm_80', isKernel: true },
      ...{ registers: 255, stackBytes: 96, spillBytes: 320, sharedBytes: 0 },
    },
    {
      ...{ symbol: INDEXES, architecture: 'sm_80', isKernel: true },
      ...{ registers: 85, stackBytes: 48, spillBytes: 0, sharedBytes: 2048 },
    },
    {
      ...{ symbol: INDEXES, architecture: 'sm_90a', isKernel: true },
      ...{ registers: 65, stackBytes: 0, spillBytes: 0, sharedBytes: 0 },
    },
  ])
})

test('a function that was not inlined has a stack of its own', () => {
  const [, first, second] = REPORT.split('ptxas info    : Compiling entry')
  const callee = `ptxas info    : Function properties for helper
    8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
`
  const [kernel, function_] = parseReport(`Compiling entry${first}${callee}Compiling entry${second}`)
  expect(kernel).toMatchObject({ symbol: SPILLS, isKernel: true, registers: 255 })
  expect(function_).toMatchObject({ symbol: 'helper', isKernel: false, spillBytes: 8 })
  const [problem] = problems(GOOD, `Compiling entry${first}${callee}`).filter((line) =>
    line.includes('spills'),
  )
  expect(problem).toContain('spills registers: 8 bytes stored and loaded')
})

test('a report that is cut off is no report without problems', () => {
  const end = REPORT.lastIndexOf('ptxas info    : Used')
  expect(() => parseReport(REPORT.slice(0, end))).toThrow(`no registers of ${INDEXES}`)
})

test('a spill, a stack and shared memory are problems unless they are allowed', () => {
  expect(problems(GOOD)).toEqual([])
  const [spill, stack, shared, ...others] = problems({ 'gemm_tiles<*>': 2, draw_rows: 1 })
  expect(spill).toContain('gemm_tiles<Int4Tiles, 128, true> on sm_80 spills registers: 320 bytes')
  expect(stack).toContain('draw_rows on sm_80 has 48 bytes of stack: a local array')
  expect(shared).toContain('2048 bytes of static shared memory, 0 are planned')
  expect(others).toEqual([])
  const [more] = problems({ ...GOOD, 'gemm_tiles<*>': { blocks: 2, stack: 88, why: 'a test' } })
  expect(more).toContain('96 bytes of stack: 88 are allowed')
})

test('a kernel to which ptxas adds waits for wgmma is a problem on the architecture that has wgmma', () => {
  for (const [change, where] of [
    [
      'Potential Performance Loss: wgmma.mma_async instructions are serialized due to insufficient registers',
      'the ',
    ],
    ['warpgroup.wait is injected in around line 77 by compiler to allow use of registers', ''],
  ]) {
    const line = `ptxas info    : (C7511) ${change} in ${where}function '${INDEXES}'\n`
    const [problem, ...others] = problems(GOOD, line + REPORT)
    expect(problem).toContain(`draw_rows on sm_90a waits for its wgmma more often than it says`)
    expect(problem).toContain(change)
    expect(others).toEqual([])
  }
})

test('what is allowed has a reason and is needed', () => {
  expect(problems({ ...GOOD, 'gemm_tiles<*>': { blocks: 2, stack: 96 } })).toEqual([
    expect.stringContaining('must say "why"'),
  ])
  const without = REPORT.replace(
    '96 bytes stack frame, 168 bytes spill stores, 152',
    '0 bytes stack frame, 0 bytes spill stores, 0',
  )
  expect(problems(GOOD, without)).toEqual([expect.stringContaining('needs no stack any more')])
})

test('registers are those that the planned blocks leave', () => {
  expect(registerCeiling(128, 2)).toBe(255)
  expect(registerCeiling(128, 3)).toBe(168)
  expect(registerCeiling(288, 1)).toBe(168)
  expect(registerCeiling(512, 1)).toBe(128)
  expect(registerCeiling(512, 2)).toBe(64)
  expect(problems({ ...GOOD, draw_rows: { ...GOOD.draw_rows, blocks: 2 } })).toEqual([
    expect.stringMatching(/draw_rows on sm_80 uses 85 registers: with more than 64, 2 blocks of 512 threads/),
    expect.stringMatching(/draw_rows on sm_90a uses 65 registers/),
  ])
})

test('a kernel without an entry and an entry without a kernel say what to write', () => {
  const { draw_rows, ...rest } = GOOD
  const [missing, ...others] = problems(rest).filter((line) => line.includes('has no entry'))
  expect(missing).toContain('Add "draw_rows": BLOCKS to "gemm/mma.cu"')
  expect(missing).toContain('85 registers on sm_80 allow 1, 65 registers on sm_90a allow 1')
  expect(others).toEqual([])
  expect(problems({ ...GOOD, draw_row: 1 })).toEqual([
    expect.stringContaining('"draw_row" of "gemm/mma.cu" names no kernel. Delete it or rename it'),
  ])
  expect(judge(compiled(), { [FILE]: GOOD, 'gemm/gone.cu': {} }, FILES, FILES).problems).toEqual([
    expect.stringContaining('there is no gemm/gone.cu'),
  ])
})

test('the longest entry that matches counts', () => {
  const entries = {
    'gemm_*': 32,
    'gemm_tiles<*, 128, true>': GOOD['gemm_tiles<*>'],
    draw_rows: GOOD.draw_rows,
  }
  expect(problems(entries)).toEqual([expect.stringContaining('"gemm_*" of "gemm/mma.cu" names no kernel')])
})

test('names without namespaces, results and parameters', () => {
  const namespace = 'apar::cuda::(anonymous namespace)::'
  expect(
    shortName(`void ${namespace}gemm_tiles<apar::cuda::Int4Tiles, 128, true>(apar::cuda::GemmCall, int)`),
  ).toBe('gemm_tiles<Int4Tiles, 128, true>')
  expect(shortName(`${namespace}draw_rows(float const*, int)`)).toBe('draw_rows')
  expect(shortName(`void ${namespace}f<${namespace}Kv<unsigned short> >(int)`)).toBe('f<Kv<unsigned short>>')
  expect(shortName(`void ${namespace}f<(apar::Kind)1, (bool)0>(int)`)).toBe('f<(Kind)1, (bool)0>')
})

test("the threads of a kernel's launch bounds", () => {
  const ptx = `.entry first(\n\t.param .u64 a,\n\t.param .u32 b\n)\n.maxntid 64, 2, 1\n.minnctapersm 3\n{\n ret;\n}
.visible .entry second(\n\t.param .u64 a\n)\n{\n ret;\n}\n.entry third()\n.maxntid 512\n{\n`
  expect([...parseThreads(ptx)]).toEqual([
    ['first', 128],
    ['third', 512],
  ])
})

test('kernels are compiled with the options and for the architectures of the library', () => {
  const { options, architectures } = buildOptions()
  expect(architectures).toEqual(['80', '90a'])
  expect(options).toEqual(
    expect.arrayContaining(['-std=c++20', '--expt-relaxed-constexpr', '--Werror', 'all-warnings']),
  )
  expect(() => buildOptions('add_library(apar_cuda)')).toThrow('no options')
})

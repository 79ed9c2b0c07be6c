import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, freemem, totalmem } from 'node:os'
import { showBytes } from '../models/show.ts'
import type { Finding } from './finding.ts'

/** Instructions that kernels use, by their names in /proc/cpuinfo, the best first. */
const X86 = [
  ['amx_bf16', 'AMX'],
  ['avx512_bf16', 'AVX-512 BF16'],
  ['avx512_vnni', 'AVX-512 VNNI'],
  ['avx512f', 'AVX-512'],
  ['avx2', 'AVX2'],
] as const
const ARM = [
  ['i8mm', 'I8MM'],
  ['bf16', 'BF16'],
  ['asimddp', 'DotProd'],
  ['asimd', 'NEON'],
] as const

const OLDEST_NODE = 20
/** The embedded model and the edge run in less; the default model does not. */
const LITTLE_MEMORY = 2 ** 30

export function nodeVersion(version = process.versions.node): Finding {
  const major = Number(version.split('.')[0])
  if (major >= OLDEST_NODE) return { check: 'Node.js', state: 'ok', found: version }
  return {
    check: 'Node.js',
    state: 'error',
    found: version,
    remedy: `install Node.js ${OLDEST_NODE} or newer`,
  }
}

/** @param flags the line of /proc/cpuinfo; undefined where there is none. */
export function processor(flags = cpuFlags(), architecture: string = process.arch): Finding {
  const model = cpus()[0]?.model.trim() || architecture
  const threads = `${availableParallelism()} threads`
  const known = architecture === 'arm64' ? ARM : X86
  const names = known.filter(([flag]) => flags?.includes(flag)).map(([, name]) => name)
  const found = [model, threads, ...(names.length > 0 ? [names.join(', ')] : [])].join('; ')
  if (flags === undefined || architecture === 'arm64' || names.length > 0) {
    return { check: 'processor', state: 'ok', found }
  }
  return {
    check: 'processor',
    state: 'warning',
    found: `${found}; no AVX2`,
    remedy: 'use a processor with AVX2: without it the engine computes ten times as slowly',
  }
}

function cpuFlags(): readonly string[] | undefined {
  try {
    const text = readFileSync('/proc/cpuinfo', 'utf8')
    return /^(?:flags|Features)\s*:(.*)$/m.exec(text)?.[1]?.trim().split(/\s+/)
  } catch {
    return undefined
  }
}

/** Memory that a model may take here: what is free of the machine, and of the container's limit. */
export function memory(available = availableMemory(), limit = containerLimit()): Finding {
  const most = limit === undefined ? available : Math.min(available, limit)
  const of = limit === undefined ? '' : `; the container may use ${showBytes(limit)}`
  const found = `${showBytes(available)} of ${showBytes(totalmem())} free${of}`
  if (most >= LITTLE_MEMORY) return { check: 'memory', state: 'ok', found }
  return {
    check: 'memory',
    state: 'warning',
    found,
    remedy: 'end other programs or raise the limit: only very small models fit',
  }
}

function availableMemory(): number {
  try {
    const [, kilobytes] = /^MemAvailable:\s*(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8')) ?? []
    if (kilobytes !== undefined) return Number(kilobytes) * 1024
  } catch {}
  return freemem()
}

function containerLimit(): number | undefined {
  const limit = process.constrainedMemory()
  // Without a limit it is 0, or a number as large as addresses.
  return limit > 0 && limit < totalmem() ? limit : undefined
}

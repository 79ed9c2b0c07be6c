import { closeSync, constants, fstatSync, openSync, readdirSync, readSync, type Stats } from 'node:fs'
import { StartupError } from '../startup-error.ts'
import { broken } from './refusals.ts'

/** What `git clone` leaves in place of a large file without Git LFS. Specification: git-lfs docs/spec.md. */
const LFS_POINTER = 'version https://git-lfs.github.com/spec/'

export interface RegularFile {
  /** Of the file when it was opened. */
  readonly bytes: number
  /** Fills `into` from the file's current position; returns the number of bytes, less only at its end. */
  read(into: Uint8Array): number
  /** The same from any position in the file; does not move the current one. */
  readAt(into: Uint8Array, position: number): number
}

/**
 * Opens a file of a checkpoint for `use` and closes it again. A FIFO or a device could block or never end: only
 * regular files are read.
 * @returns undefined when there is no such file.
 * @throws StartupError `broken_checkpoint` that names the file.
 */
export function withRegularFile<T>(path: string, use: (file: RegularFile) => T): T | undefined {
  const fd = open(path)
  if (fd === undefined) return undefined
  try {
    const stats = fstatSync(fd)
    if (!stats.isFile()) throw broken(`${path} is ${kindOf(stats)}, not a file`)
    if (isLfsPointer(fd)) {
      const advice = 'run `git lfs pull` in its folder'
      throw broken(`${path} is a Git LFS pointer, not the file itself: ${advice}`)
    }
    let position = 0
    const read = (into: Uint8Array): number => {
      const count = fill(fd, into, position)
      position += count
      return count
    }
    return use({ bytes: stats.size, read, readAt: (into, at) => fill(fd, into, at) })
  } catch (error) {
    throw error instanceof StartupError ? error : broken(`${path} cannot be read`, error)
  } finally {
    closeSync(fd)
  }
}

/** The same with several files, which must all be there. */
export function withRegularFiles<T>(paths: readonly string[], use: (files: readonly RegularFile[]) => T): T {
  const files: RegularFile[] = []
  const openNext = (): T => {
    const path = paths[files.length]
    if (path === undefined) return use(files)
    const used = withRegularFile(path, (file) => {
      files.push(file)
      return { result: openNext() }
    })
    if (!used) throw broken(`${path} is missing`)
    return used.result
  }
  return openNext()
}

/** Reads a whole text file of at most `maxBytes`; undefined when there is none. */
export function readTextFile(path: string, maxBytes: number): string | undefined {
  return withRegularFile(path, (file) => {
    // Files of /proc and the like say that they are empty: what counts is what can be read.
    const probe = new Uint8Array(Math.min(maxBytes, file.bytes) + 1)
    const first = file.read(probe)
    if (first > maxBytes) throw broken(`${path} is longer than ${maxBytes} bytes`)
    if (first === probe.length) throw broken(`${path} grows while it is read`)
    return new TextDecoder().decode(probe.subarray(0, first))
  })
}

/** The names in a folder, sorted. @throws StartupError when it cannot be read. */
export function listFolder(path: string): string[] {
  try {
    return readdirSync(path).sort()
  } catch (error) {
    throw broken(`${path} cannot be read`, error)
  }
}

function open(path: string): number | undefined {
  try {
    // Without O_NONBLOCK, opening a FIFO waits for a writer.
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    if (isMissing(error)) return undefined
    throw broken(`${path} cannot be opened`, error)
  }
}

function fill(fd: number, into: Uint8Array, position: number): number {
  let count = 0
  while (count < into.length) {
    const more = readSync(fd, into, count, into.length - count, position + count)
    if (more === 0) break
    count += more
  }
  return count
}

function isLfsPointer(fd: number): boolean {
  const start = new Uint8Array(LFS_POINTER.length)
  fill(fd, start, 0)
  return new TextDecoder().decode(start) === LFS_POINTER
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return 'a folder'
  if (stats.isFIFO()) return 'a FIFO'
  if (stats.isSocket()) return 'a socket'
  return 'a device'
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')
}

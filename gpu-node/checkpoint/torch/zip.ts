// Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3 and 4.5.3 (zip64), as far as
// torch.save writes it: members that are not compressed, so that their bytes can be used from a mapping.

import { broken, unsupported } from '../refusals.ts'
import type { RegularFile } from '../regular-file.ts'

export interface ZipMember {
  /** Of its first byte in the file. */
  readonly offset: number
  readonly bytes: number
}

/** 300,000 members with torch's names. */
const MAX_DIRECTORY_BYTES = 16 << 20
const MAX_NAME_BYTES = 1024

const LOCAL_HEADER = { signature: 0x04034b50, bytes: 30 }
const ENTRY = { signature: 0x02014b50, bytes: 46 }
const END = { signature: 0x06054b50, bytes: 22 }
const END64_LOCATOR = { signature: 0x07064b50, bytes: 20 }
const END64 = { signature: 0x06064b50, bytes: 56 }
const ZIP64_EXTRA = 0x0001
/** A field with this value is to be found in a zip64 record. */
const IN_ZIP64 = 0xffffffff
const IN_ZIP64_COUNT = 0xffff
const ENCRYPTED = 1
const STORED = 0

interface Directory {
  readonly offset: number
  readonly bytes: number
  readonly count: number
}

interface Entry {
  readonly name: string
  readonly header: number
  readonly bytes: number
}

/**
 * The members of a zip file by name. Each lies between its own header and the directory, and none overlaps another.
 * Reads headers only; checksums are not compared, because that would read all weights.
 * @returns undefined when the file does not end as a zip file does.
 * @throws StartupError that names file and member.
 */
export function readZip(path: string, file: RegularFile): Map<string, ZipMember> | undefined {
  const damaged = (reason: string) => broken(`${path}: ${reason}`)
  const read = (offset: number, bytes: number, what: string): Buffer => {
    const buffer = Buffer.alloc(bytes)
    if (!(offset >= 0 && offset + bytes <= file.bytes)) throw damaged(`${what} lies outside the file`)
    if (file.readAt(buffer, offset) < bytes) throw damaged('became shorter while it was read')
    return buffer
  }

  function findDirectory(): Directory | undefined {
    const at = file.bytes - END.bytes
    if (at < 0) return undefined
    // torch writes no comment, so the file ends with this record.
    const end = read(at, END.bytes, 'the end record')
    if (end.readUInt32LE() !== END.signature) return undefined
    const disks = end.readUInt32LE(4)
    const found = { count: end.readUInt16LE(10), bytes: end.readUInt32LE(12), offset: end.readUInt32LE(16) }
    const directory = zip64Directory(at, found) ?? found
    if (disks !== 0 && disks !== IN_ZIP64) throw damaged('is one part of a zip file of several')
    if (!(directory.offset + directory.bytes <= at)) throw damaged('the zip directory lies outside the file')
    if (directory.bytes > MAX_DIRECTORY_BYTES)
      throw damaged(`a zip directory of ${directory.bytes} bytes is longer than ${MAX_DIRECTORY_BYTES}`)
    if (directory.count > directory.bytes / ENTRY.bytes)
      throw damaged(`the zip directory has no room for ${directory.count} members`)
    return directory
  }

  function zip64Directory(end: number, { count, bytes, offset }: Directory): Directory | undefined {
    const needed = count === IN_ZIP64_COUNT || bytes === IN_ZIP64 || offset === IN_ZIP64
    if (!needed) return undefined
    const locator = read(end - END64_LOCATOR.bytes, END64_LOCATOR.bytes, 'the zip64 locator')
    if (locator.readUInt32LE() !== END64_LOCATOR.signature) throw damaged('has no zip64 locator')
    const record = read(u64(locator, 8), END64.bytes, 'the zip64 end record')
    if (record.readUInt32LE() !== END64.signature) throw damaged('has no zip64 end record')
    return { count: u64(record, 32), bytes: u64(record, 40), offset: u64(record, 48) }
  }

  function readEntries({ offset, bytes, count }: Directory): Entry[] {
    const directory = read(offset, bytes, 'the zip directory')
    const entries: Entry[] = []
    let at = 0
    for (let index = 0; index < count; index++) {
      if (at + ENTRY.bytes > bytes) throw damaged('the zip directory ends within a member')
      const field = directory.subarray(at)
      if (field.readUInt32LE() !== ENTRY.signature) throw damaged('the zip directory is damaged')
      const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((place) =>
        field.readUInt16LE(place),
      ) as [number, number, number]
      const extraAt = ENTRY.bytes + nameBytes
      at += extraAt + extraBytes + commentBytes
      if (at > bytes) throw damaged('the zip directory ends within a member')
      if (nameBytes > MAX_NAME_BYTES) throw damaged(`the name of a zip member takes ${nameBytes} bytes`)
      const name = field.toString('utf8', ENTRY.bytes, extraAt)
      const extra = field.subarray(extraAt, extraAt + extraBytes)
      entries.push(toEntry(name, field, extra))
    }
    return entries
  }

  function toEntry(name: string, field: Buffer, extra: Buffer): Entry {
    const refuse = (why: string) => unsupported(`${path}: ${JSON.stringify(name)} ${why}`)
    if (field.readUInt16LE(8) & ENCRYPTED) throw refuse('is encrypted')
    const method = field.readUInt16LE(10)
    if (method !== STORED)
      throw refuse('is compressed: this is no state dict, which torch.save does not compress')
    const classic = {
      packed: field.readUInt32LE(20),
      bytes: field.readUInt32LE(24),
      header: field.readUInt32LE(42),
    }
    const wide = zip64Fields(extra)
    const take = (value: number): number => {
      if (value !== IN_ZIP64) return value
      const next = wide.shift()
      if (next === undefined) throw damaged(`${JSON.stringify(name)} has no zip64 sizes`)
      return next
    }
    // The order of the zip64 fields.
    const bytes = take(classic.bytes)
    const packed = take(classic.packed)
    const header = take(classic.header)
    if (packed !== bytes) throw damaged(`${JSON.stringify(name)} has two sizes, ${packed} and ${bytes} bytes`)
    return { name, header, bytes }
  }

  /** Where a member's bytes begin: its local header has a name and fields of its own, of other lengths. */
  function dataOf({ name, header: at }: Entry): number {
    const where = `the header of ${JSON.stringify(name)}`
    const header = read(at, LOCAL_HEADER.bytes, where)
    if (header.readUInt32LE() !== LOCAL_HEADER.signature) throw damaged(`${where} is not where it should be`)
    const nameBytes = header.readUInt16LE(26)
    const start = at + LOCAL_HEADER.bytes + nameBytes + header.readUInt16LE(28)
    const sameName =
      nameBytes <= MAX_NAME_BYTES && read(at + LOCAL_HEADER.bytes, nameBytes, where).toString('utf8') === name
    if (!sameName) throw damaged(`${where} has another name`)
    return start
  }

  const directory = findDirectory()
  if (!directory) return undefined
  const members = new Map<string, ZipMember>()
  let end = 0
  let before = ''
  for (const entry of readEntries(directory).sort((a, b) => a.header - b.header)) {
    const name = JSON.stringify(entry.name)
    if (members.has(entry.name)) throw damaged(`has ${name} twice`)
    if (entry.header < end) throw damaged(`${name} overlaps ${before}`)
    const offset = dataOf(entry)
    end = offset + entry.bytes
    if (!(end <= directory.offset)) throw damaged(`${name} reaches beyond its place in the file`)
    members.set(entry.name, { offset, bytes: entry.bytes })
    before = name
  }
  return members
}

/** The numbers of the zip64 extra field, in their order. */
function zip64Fields(extra: Buffer): number[] {
  for (let at = 0; at + 4 <= extra.length; ) {
    const bytes = extra.readUInt16LE(at + 2)
    const field = extra.subarray(at + 4, at + 4 + bytes)
    if (extra.readUInt16LE(at) === ZIP64_EXTRA)
      return Array.from({ length: Math.floor(field.length / 8) }, (_, index) => u64(field, 8 * index))
    at += 4 + bytes
  }
  return []
}

/** Exact up to 2^53; larger values are rounded, and larger than any file. */
function u64(buffer: Buffer, at: number): number {
  return Number(buffer.readBigUInt64LE(at))
}

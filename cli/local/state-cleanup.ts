import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
} from 'node:fs'
import { join } from 'node:path'

/** Size of a folder above which it is worth making it anew: file systems do not shrink folders. */
const LARGE_FOLDER_BYTES = 64 * 1024
const PAGE_BYTES = 4096

/**
 * Removes from a state folder what workerd leaves behind: all of the classes that store nothing, and the files of
 * objects that have stored nothing or have deleted their storage. Only while no workerd uses the folder.
 */
export function cleanState(
  folder: string,
  classes: { readonly stored: string[]; readonly unstored: string[] },
): void {
  for (const name of classes.unstored) rmSync(join(folder, name), { recursive: true, force: true })
  for (const name of classes.stored) cleanClass(join(folder, name))
}

function cleanClass(folder: string): void {
  const moved = `${folder}.moved`
  // An earlier clean-up was cut short: each of the files is in one of the two folders.
  if (existsSync(moved)) moveAll(moved, folder)
  if (!existsSync(folder)) return
  for (const name of readdirSync(folder)) {
    if (!name.endsWith('.sqlite') || !isEmpty(join(folder, name))) continue
    // The database last: without it the others would be taken for those of a new one.
    for (const suffix of ['-wal', '-shm', '']) rmSync(join(folder, name + suffix), { force: true })
  }
  if (statSync(folder).size <= LARGE_FOLDER_BYTES) return
  moveAll(folder, moved)
  renameSync(moved, folder)
}

/** Moves all files of a folder into another one, which is made if it is missing; removes the first one. */
function moveAll(from: string, to: string): void {
  mkdirSync(to, { recursive: true, mode: 0o700 })
  for (const name of readdirSync(from)) renameSync(join(from, name), join(to, name))
  rmdirSync(from)
}

/**
 * A SQLite database without any table. One whose changes are still in its write-ahead log, or that is not understood,
 * is not empty.
 */
function isEmpty(path: string): boolean {
  if ((statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0) return false
  const { size } = statSync(path)
  if (size === 0) return true
  if (size !== PAGE_BYTES) return false
  const page = Buffer.alloc(PAGE_BYTES)
  const file = openSync(path, 'r')
  try {
    if (readSync(file, page, 0, PAGE_BYTES, 0) !== PAGE_BYTES) return false
  } finally {
    closeSync(file)
  }
  // The schema's B-tree begins behind the header of 100 bytes: a leaf page (13) with 0 cells
  // (https://www.sqlite.org/fileformat.html, 1.6).
  return (
    page.toString('latin1', 0, 16) === 'SQLite format 3\0' && page[100] === 13 && page.readUInt16BE(103) === 0
  )
}

import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { UserError } from '../../explain.ts'
import { noSpace } from '../disk-space.ts'
import { type HubRequests, Passing, reasonOf } from './hub-requests.ts'

/** A file of a repository, and what its bytes must be. */
export interface HubFile {
  /** Within the repository. */
  readonly path: string
  readonly bytes: number
  /** sha256 of a large file (Git LFS), git's sha1 of a small one: the name of its blob in the cache, too. */
  readonly digest: string
}

export interface DownloadOptions {
  requests: HubRequests
  url: URL
  file: HubFile
  /** Where the file goes; until it is whole and checked, `.incomplete` is added to the name. */
  path: string
  signal: AbortSignal
  /** Bytes that have come; negative when some, also of an earlier try, are given up. */
  onBytes(count: number): void
}

/** A connection on which nothing comes for so long is given up. */
const SILENCE_LIMIT_MS = 60_000

/**
 * Downloads a file, from where an earlier try has ended, and checks it.
 * @throws UserError `wrong_checksum`, `disk_full`, and as {@link HubRequests}
 */
export async function download(options: DownloadOptions): Promise<void> {
  const { requests, file, path, onBytes } = options
  const incomplete = `${path}.incomplete`
  try {
    const part = await PartialFile.open(incomplete, file)
    try {
      const before = part.bytes
      await requests.repeat(
        () => receive(options, part),
        () => part.bytes,
      )
      if (before > 0 && part.digest() !== file.digest) {
        // What was there may have been damaged.
        onBytes(-part.bytes)
        await part.restart()
        await requests.repeat(
          () => receive(options, part),
          () => part.bytes,
        )
      }
      const found = part.digest()
      if (found !== file.digest) {
        await rm(incomplete, { force: true })
        throw wrongChecksum(file, `its checksum is ${found}, and the hub says ${file.digest}`)
      }
      await part.sync()
    } finally {
      await part.close()
    }
    await rename(incomplete, path)
  } catch (error) {
    throw noSpace(error, path) ?? error
  }
}

/** One request, for what is missing. */
async function receive({ requests, url, file, signal, onBytes }: DownloadOptions, part: PartialFile) {
  if (part.bytes === file.bytes) return
  const silence = new AbortController()
  const timer = setTimeout(() => silence.abort(), SILENCE_LIMIT_MS)
  const headers = new Headers({ 'accept-encoding': 'identity' })
  if (part.bytes > 0) headers.set('range', `bytes=${part.bytes}-`)
  try {
    const response = await requests.send(url, headers, AbortSignal.any([signal, silence.signal]))
    if (part.bytes > 0 && !continues(response, part.bytes)) {
      onBytes(-part.bytes)
      await part.restart()
    }
    for await (const chunk of response.body ?? []) {
      timer.refresh()
      if (part.bytes + chunk.length > file.bytes) {
        await part.restart()
        throw wrongChecksum(file, `it is longer than the ${file.bytes} bytes that the hub says`)
      }
      await part.append(chunk)
      onBytes(chunk.length)
    }
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof Passing || error instanceof UserError || isOfFile(error)) throw error
    throw cut(url, silence.signal.aborted ? `nothing came for ${SILENCE_LIMIT_MS / 1000} s` : reasonOf(error))
  } finally {
    clearTimeout(timer)
    silence.abort()
  }
  if (part.bytes < file.bytes) throw cut(url, 'the answer is too short')
}

/** Whether a response has the bytes from `offset` on; a server without ranges begins anew. */
function continues(response: Response, offset: number): boolean {
  const [, from] = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '') ?? []
  return response.status === 206 && Number(from) === offset
}

function cut(url: URL, reason: string): Passing {
  const what = `the connection to ${url.host} was cut (${reason})`
  const advice = 'run the command again, it goes on where it was'
  return new Passing(new UserError('hub_unreachable', `${what}: ${advice}`))
}

function wrongChecksum({ path }: HubFile, what: string): UserError {
  const advice = 'pull it again; if that does not help, the hub or a proxy changes the file'
  return new UserError('wrong_checksum', `${path} was downloaded wrongly, ${what}: ${advice}`)
}

/** Of a system call for a file; those of the network come from fetch() as a TypeError. */
function isOfFile(error: unknown): boolean {
  return (
    error instanceof Error && 'syscall' in error && ['write', 'ftruncate'].includes(String(error.syscall))
  )
}

/** The file as far as it is there, with its checksum so far. */
class PartialFile {
  bytes = 0
  readonly #handle: FileHandle
  readonly #file: HubFile
  #hash: Hash

  private constructor(handle: FileHandle, file: HubFile) {
    this.#handle = handle
    this.#file = file
    this.#hash = beginHash(file)
  }

  static async open(path: string, file: HubFile): Promise<PartialFile> {
    const part = new PartialFile(await open(path, 'a+'), file)
    try {
      for await (const chunk of createReadStream(path)) {
        part.#hash.update(chunk)
        part.bytes += chunk.length
      }
      if (part.bytes > file.bytes) await part.restart()
      return part
    } catch (error) {
      await part.close()
      throw error
    }
  }

  async append(chunk: Uint8Array): Promise<void> {
    await this.#handle.appendFile(chunk)
    this.#hash.update(chunk)
    this.bytes += chunk.length
  }

  async restart(): Promise<void> {
    await this.#handle.truncate(0)
    this.#hash = beginHash(this.#file)
    this.bytes = 0
  }

  digest(): string {
    return this.#hash.copy().digest('hex')
  }

  async sync(): Promise<void> {
    await this.#handle.sync()
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

function beginHash({ digest, bytes }: HubFile): Hash {
  return digest.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${bytes}\0`)
}

import { isAbsolute } from 'node:path'

/** A model on the hub, or one file of it: `OWNER/NAME[@REVISION][:FILE]`, after git's `REVISION:FILE`. */
export interface HubName {
  /** `OWNER/NAME`. */
  readonly repo: string
  /** A branch, a tag or a commit. */
  readonly revision: string
  readonly file: string | undefined
}

export const DEFAULT_REVISION = 'main'
export const COMMIT = /^[0-9a-f]{40}$/

/** The hub's own rules: neither `--`, which separates the parts of a cache folder's name, nor `..`. */
const PART = /^(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?$/
const REVISION = /^[A-Za-z0-9_][A-Za-z0-9_./-]{0,254}$/

/** Undefined for a text that names no model of the hub. No part of a name can lead out of a folder. */
export function parseHubName(text: string): HubName | undefined {
  const [, owner = '', name = '', revision = DEFAULT_REVISION, file] =
    /^([^/@:]+)\/([^/@:]+)(?:@([^:]+))?(?::(.+))?$/.exec(text) ?? []
  if (!PART.test(owner) || !PART.test(name)) return undefined
  if (!REVISION.test(revision) || !isRelativePath(revision)) return undefined
  if (file !== undefined && !isRelativePath(file)) return undefined
  return { repo: `${owner}/${name}`, revision, file }
}

/** As a user would write it. */
export function showHubName({ repo, revision, file }: HubName): string {
  return `${repo}${revision === DEFAULT_REVISION ? '' : `@${revision}`}${file === undefined ? '' : `:${file}`}`
}

/** Whether a path stays within the folder that it is relative to, on any system. */
export function isRelativePath(path: string): boolean {
  if (path === '' || path.includes('\\') || path.includes('\0') || isAbsolute(path)) return false
  return path.split('/').every((part) => !['', '.', '..'].includes(part) && !/^[A-Za-z]:/.test(part))
}

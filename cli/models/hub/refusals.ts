import { UserError } from '../../explain.ts'

interface Asked {
  repo: string
  hasToken: boolean
}

/** What a response with an error status means for the user. The hub names its reasons in X-Error-Code. */
export function refusal(response: Response, { repo, hasToken }: Asked): UserError {
  const { status, headers, url } = response
  const { host } = new URL(url)
  const reason = headers.get('x-error-code')
  const page = `open the page of ${repo} on the hub, accept its terms`
  if (reason === 'GatedRepo' || (status === 403 && reason === null)) {
    const next = hasToken
      ? `${page} with the account of your token (HF_TOKEN), or wait until its owner has agreed`
      : `${page}, and set HF_TOKEN to a token of your account`
    return new UserError('hub_gated', `${repo} is gated: ${next}`)
  }
  if (reason === 'RevisionNotFound') {
    return new UserError('hub_not_found', `${repo} has no such revision: leave out @REVISION for its newest`)
  }
  if (reason === 'EntryNotFound') {
    return new UserError('hub_not_found', `${repo} has no file ${fileOf(url)} in this revision`)
  }
  if (status === 401 && hasToken && reason === null) {
    return new UserError(
      'hub_refused',
      `${host} refuses the token in HF_TOKEN: make a new one, or unset it for models that anybody may read`,
    )
  }
  if (status === 401 || status === 404) {
    const access = hasToken
      ? 'your token (HF_TOKEN) may not read it'
      : 'it is private and needs a token in HF_TOKEN'
    return new UserError(
      'hub_not_found',
      `there is no model ${repo} on ${host}, or ${access}: check its name`,
    )
  }
  if (status === 429) {
    return new UserError('hub_busy', `${host} gets too many requests from here (429): try again later`)
  }
  if (status >= 500) return new UserError('hub_busy', `${host} has a fault (${status}): try again later`)
  return new UserError('hub_refused', `${host} refuses a request for ${repo} (${status})`)
}

/** For the host that has the large files. */
export function storeRefusal(host: string, status: number, repo: string): UserError {
  const what = `${host}, where the hub keeps the files of ${repo}, refuses to send one (${status})`
  return new UserError('hub_refused', `${what}: try again later`)
}

/** Of an address `…/resolve/REVISION/FILE`; nothing else of it is shown, because it may be signed. */
function fileOf(url: string): string {
  return decodeURIComponent(/\/resolve\/[^/]+\/([^?#]+)/.exec(url)?.[1] ?? '(unknown)')
}

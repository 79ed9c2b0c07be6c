/** The heading of what is not released yet. */
const UNRELEASED = '## Unreleased\n'

/** The lines of a version: what stands between its heading and the next one. @throws Error where it has none. */
export function notesOf(changelog, version) {
  const begin = changelog.indexOf(`\n## ${version}\n`)
  if (begin === -1) throw new Error(`CHANGELOG.md has no heading "## ${version}"`)
  const rest = changelog.slice(changelog.indexOf('\n', begin + 1) + 1)
  const end = rest.indexOf('\n## ')
  const notes = (end === -1 ? rest : rest.slice(0, end)).trim()
  if (notes === '') throw new Error(`CHANGELOG.md says nothing of ${version}`)
  return notes
}

/** What was not released yet becomes a version's. @throws Error where there is nothing. */
export function released(changelog, version) {
  if (changelog.includes(`\n## ${version}\n`)) throw new Error(`CHANGELOG.md has ${version} already`)
  if (!changelog.includes(UNRELEASED)) throw new Error('CHANGELOG.md has no heading "## Unreleased"')
  const next = changelog.replace(UNRELEASED, `${UNRELEASED}\n## ${version}\n`)
  notesOf(next, version)
  return next
}

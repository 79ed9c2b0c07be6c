import { createHash } from 'node:crypto'

interface PageParts {
  /** What the reader's tab says; plain text. */
  readonly title: string
  readonly style: string
  readonly script: string
  /** What the script finds as JSON in the element `data`. */
  readonly data: unknown
}

/**
 * A page of one file without requests. Its data reach it as JSON and must become text nodes only; the policy allows this
 * script and this style, nothing else.
 */
export function ownPage({ title, style, script, data }: PageParts): string {
  const policy = `default-src 'none'; style-src ${hash(style)}; script-src ${hash(script)}; base-uri 'none'; form-action 'none'`
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escaped(title)}</title>
<style>${style}</style>
</head>
<body>
<noscript>This page needs JavaScript.</noscript>
<script type="application/json" id="data">${jsonInScript(data)}</script>
<script>${script}</script>
</body>
</html>
`
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}

/** No text of the data can end the script element. */
function jsonInScript(data: unknown): string {
  return JSON.stringify(data).replaceAll('<', '\\u003c')
}

function hash(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`
}

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../../gpu-node/package-root.ts'
import {
  documentOrder,
  phasesOf,
  placesOf,
  promptLength,
  type Token,
  type TokenTree,
} from '../../shared/token-tree.ts'
import type { PageData, PageToken } from './page/page-data.ts'
import { visible } from './visible.ts'

/**
 * A page of its own that shows a tree: one file without requests, for which a click on a token shows what it attends to.
 * The texts of the tree reach the page as JSON and become text nodes only; the policy allows this script and this style.
 */
export function treePage(tree: TokenTree): string {
  const [style, script] = ['page.css', 'page.js'].map((name) =>
    readFileSync(join(packageRoot, 'cli/token-tree/page', name), 'utf8'),
  )
  const policy = `default-src 'none'; style-src ${hash(style)}; script-src ${hash(script)}; base-uri 'none'; form-action 'none'`
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escaped(visible(tree.title))}</title>
<style>${style}</style>
</head>
<body>
<noscript>This page needs JavaScript.</noscript>
<script type="application/json" id="data">${jsonInScript(pageData(tree))}</script>
<script>${script}</script>
</body>
</html>
`
}

function pageData({ title, facts, words, segments }: TokenTree): PageData {
  const places = placesOf(segments)
  return {
    title: visible(title),
    facts: facts.map(([name, value]) => [visible(name), visible(value)] as const),
    words,
    segments: segments.map(({ parent, branch, tokens }, index) => {
      const { start = 0, depth = 1, forks = [] } = places[index] ?? {}
      const branches = forks.map((fork) => segments[fork]?.branch ?? 0)
      return { parent: parent ?? null, branch, start, depth, forks: branches, tokens: tokens.map(pageToken) }
    }),
    order: documentOrder(places),
    prompt: promptLength(segments),
    phases: phasesOf(segments, places),
  }
}

/** Stands for a token that is a part of a character. */
const PARTIAL = '·'

function pageToken({ text, special, id, given }: Token): PageToken {
  const kind = special !== undefined ? 'special' : text === '' ? 'partial' : undefined
  const shown = kind === 'special' ? visible(special ?? '') : kind === 'partial' ? PARTIAL : visible(text)
  const quoted =
    kind === 'special' ? shown : kind === 'partial' ? 'part of a character' : visible(JSON.stringify(text))
  return { shown, quoted, id, kind, given: given || undefined }
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}

/** No text of the data can end the script element. */
function jsonInScript(data: PageData): string {
  return JSON.stringify(data).replaceAll('<', '\\u003c')
}

function hash(text = ''): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`
}

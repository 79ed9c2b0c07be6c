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
import { ownPage } from '../html/own-page.ts'
import type { PageData, PageToken } from './page/page-data.ts'
import { visible } from './visible.ts'

/** A page of its own that shows a tree: a click on a token shows what it attends to. */
export function treePage(tree: TokenTree): string {
  const read = (name: string) => readFileSync(join(packageRoot, 'cli/token-tree/page', name), 'utf8')
  return ownPage({
    title: visible(tree.title),
    style: read('page.css'),
    script: read('page.js'),
    data: pageData(tree),
  })
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

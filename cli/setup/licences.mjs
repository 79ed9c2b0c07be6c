import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './report.mjs'

const LICENCE_FILE = /^(licen[cs]e|notice|copying)/i

/** The licences of the packages whose code the bundles may hold: each text once, below the packages that it is of. */
export function licences() {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'))
  /** By text, the packages that have it. */
  const texts = new Map()
  for (const [folder, { version, license, dev, devOptional, optional, peer }] of Object.entries(packages)) {
    if (folder === '' || dev || devOptional || optional || peer || !existsSync(join(root, folder))) continue
    const name = `${folder.replace(/^.*node_modules\//, '')} ${version} (${license})`
    const files = readdirSync(join(root, folder)).filter((file) => LICENCE_FILE.test(file))
    for (const file of files) {
      const text = readFileSync(join(root, folder, file), 'utf8').trim()
      texts.set(text, [...(texts.get(text) ?? []), name])
    }
    if (files.length === 0) texts.set('', [...(texts.get('') ?? []), name])
  }
  const sections = Array.from(texts, ([text, names]) => `${names.join('\n')}\n\n${text}`)
  return `${sections.join(`\n\n${'-'.repeat(80)}\n\n`)}\n`
}

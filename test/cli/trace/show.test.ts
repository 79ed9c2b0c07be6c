import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { tracePage } from '../../../cli/trace/show/html.ts'
import { replayInTerminal } from '../../../cli/trace/show/terminal.ts'
import { hasChromium, launchChromium } from '../../support/chromium.ts'
import { traceOf } from './sample-trace.ts'

describe('the replay in a terminal', () => {
  test('shows each answer in document order with its figures', async () => {
    let text = ''
    const out = { write: (more: string) => (text += more) }
    await replayInTerminal(traceOf('81', 'parallel'), out, {
      speed: undefined,
      signal: new AbortController().signal,
    })
    expect(text).toBe(
      'parallel, turn 1: What is a?\n\n1. a: one two\nend\n\n' +
        '(7 tokens in 5 steps, 1.40 a step, 0 branches, 5 ms, ended by stop)\n\n',
    )
  })

  test('draws the branches as they grew', async () => {
    const drawn: string[] = []
    const out = { write: (more: string) => drawn.push(more), columns: 60, rows: 20 }
    await replayInTerminal(traceOf('81', 'parallel'), out, {
      speed: 0.02,
      signal: new AbortController().signal,
    })
    const pictures = drawn.map(stripVTControlCharacters)
    const both = pictures.find((each) => each.includes('▸ 0 1. a: end') && each.includes('  ▸ 1 one'))
    expect(both).toContain('3 ms, step 2: 2 live, 2 of 2 rows')
    expect(pictures.some((each) => each.includes('the prompt is computed'))).toBe(true)
  })
})

describe.skipIf(!hasChromium)('the page of a trace', () => {
  let folder: string
  let browser: Browser
  let page: Page
  const problems: string[] = []

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'apar-trace-page-'))
    browser = await launchChromium()
    page = await browser.newPage({ reducedMotion: 'reduce' })
    page.on('console', (message) => problems.push(message.text()))
    page.on('pageerror', (error) => problems.push(String(error)))
    page.on('request', (request) => request.url().startsWith('file:') || problems.push(request.url()))
    const parallel = traceOf('81', 'parallel')
    const [turn] = parallel.turns
    if (!turn) throw new Error('no turn')
    const prompt = '</script><script>document.title = "broken"</script>\u202e'
    const hostile = { ...parallel, turns: [{ ...turn, begin: { ...turn.begin, prompt } }] }
    writeFileSync(join(folder, 'page.html'), tracePage([hostile, traceOf('81', 'serial')]))
    await page.goto(`file://${join(folder, 'page.html')}`)
  }, 60_000)
  afterAll(async () => {
    await browser?.close()
    rmSync(folder, { recursive: true })
  })

  async function seek(ms: number): Promise<string[]> {
    // As text: these tests are not compiled for a browser.
    const slider = `document.querySelector('input[type=range]')`
    await page.evaluate(`${slider}.value = '${ms}'; ${slider}.dispatchEvent(new Event('input'))`)
    return await page.locator('section .body').allTextContents()
  }

  test('shows the whole answers where motion is not wanted', async () => {
    expect(await page.locator('section .body').allTextContents()).toEqual([
      '1. a: one two\nend',
      '1. a: one two\nend',
    ])
    expect(await page.locator('section h2').allTextContents()).toEqual(['Parallel', 'Serial'])
    expect(await page.locator('section').first().locator('rect:not(.cover)').count()).toBe(2)
  })

  test('grows the answers with the time, forwards and backwards', async () => {
    expect(await seek(0)).toEqual(['', ''])
    expect(await seek(3)).toEqual(['1. a: one\nend', '1. a: one two'])
    expect(await page.locator('section').first().locator('.branch.growing').count()).toBe(2)
    expect(await seek(1)).toEqual(['1. a:', '1. a:'])
    expect(await seek(6)).toEqual(['1. a: one two\nend', '1. a: one two\nend'])
    expect(await page.locator('.growing').count()).toBe(0)
    expect(await page.locator('.figures').first().textContent()).toContain('Tokens7Tokens per step1.75')
  })

  test('plays', async () => {
    await seek(0)
    await page.selectOption('select', '0.1')
    await page.click('button:has-text("Play")')
    // Not page.waitForFunction: it would evaluate a string in the page, which the page's policy forbids.
    const body = page.locator('.body').first()
    await expect.poll(() => body.textContent(), { timeout: 30_000 }).toBe('1. a: one two\nend')
  })

  test('is of one file, and no text of a trace becomes a script', async () => {
    expect(problems).toEqual([])
    expect(await page.title()).toContain('</script>')
    expect(await page.locator('.prompt').textContent()).toContain('⟨U+202E⟩')
  })
})

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hasChromium, launchChromium } from '../support/chromium.ts'
import { freeKey, type ScriptedEdge, startScriptedEdge } from './scripted-edge.ts'

const { key, record } = freeKey()

/** An answer of the fake node, as a prompt. */
function script(apar?: object): string {
  const counts = { prompt_tokens: 5, cached_prompt_tokens: 0, completion_tokens: 7, total_tokens: 12 }
  return JSON.stringify([
    { type: 'accepted', version: 1, model: 'demo', joints: 'kept', created: 1_700_000_000 },
    { type: 'delta', branch: 0, text: 'Hello' },
    { type: 'branch_end', branch: 0, reason: 'stop' },
    { type: 'done', reason: 'stop', usage: { ...counts, branches: [], apar } },
  ])
}

describe.skipIf(!hasChromium)('the figures of an answer on the chat page', () => {
  const state = mkdtempSync(join(tmpdir(), 'apar-page-'))
  let edge: ScriptedEdge
  let browser: Browser
  let page: Page

  beforeAll(async () => {
    edge = await startScriptedEdge(state, [record])
    browser = await launchChromium()
    page = await browser.newPage()
    await page.goto(`${edge.url}/#key=${key}`)
    await page.locator('#model:enabled').waitFor()
  })

  afterAll(async () => {
    await browser?.close()
    await edge?.close()
    rmSync(state, { recursive: true })
  })

  async function figuresOf(prompt: string): Promise<string[]> {
    await page.locator('#prompt').fill(prompt)
    await page.keyboard.press('Control+Enter')
    await page.locator('#status', { hasText: 'Complete' }).waitFor()
    return await page.locator('#figures > div').allInnerTexts()
  }

  it('say how many drafted tokens were accepted', async () => {
    const figures = await figuresOf(script({ speculation: { drafted: 8, accepted: 6 } }))
    expect(figures.at(-1)).toMatch(/^drafts accepted\s+6 of 8 \(75 %\)$/i)
  })

  it('do not speak of drafts where there were none', async () => {
    const figures = await figuresOf(script())
    expect(figures.join()).not.toMatch(/drafts/i)
    expect(figures.at(-1)).toMatch(/^branches/i)
  })
})

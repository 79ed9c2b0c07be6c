import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hasChromium, launchChromium } from '../../support/chromium.ts'
import { type Stack, startStack } from '../stack.ts'
import { ChatPage } from './chat-page.ts'

describe.skipIf(!hasChromium)('what the page says when something is wrong', () => {
  let stack: Stack
  let browser: Browser

  beforeAll(async () => {
    stack = await startStack()
    browser = await launchChromium()
  })

  afterAll(async () => {
    await browser?.close()
    await stack?.close()
  })

  it('asks for a key when it has none, and says that a wrong one is wrong', async () => {
    const { page } = await ChatPage.open(browser, stack.url)
    // Whoever types or pastes a key needs no other key before it.
    await page.locator('#key:focus').waitFor()
    await page.locator('#key').fill(`${stack.key}x`)
    await page.keyboard.press('Enter')
    await page.locator('#key-problem', { hasText: 'not valid' }).waitFor()
    await page.locator('#key').fill(stack.key)
    await page.keyboard.press('Enter')
    await page.locator('#model:enabled').waitFor()
    await page.locator('dialog[open]').waitFor({ state: 'detached' })
    await page.context().close()
  })

  it('says that a setting is refused, and answers when it is mended', async () => {
    const chat = await ChatPage.open(browser, stack.url, stack.key)
    await chat.page.locator('#prompt').fill('word '.repeat(5_000))
    await chat.page.keyboard.press('Enter')
    await chat.state('failed')
    expect(await chat.lastAnswer.getByRole('alert').textContent()).toContain('context_length_exceeded')
    await chat.button('Edit the prompt').click()
    await chat.page.getByLabel('Edited prompt').fill('How do I use tar?')
    await chat.page.keyboard.press('Control+Enter')
    await chat.state('complete')
    await chat.close()
  })

  it('says that there is no gpu node, keeps the prompt, and tries again', async () => {
    const chat = await ChatPage.open(browser, stack.url, stack.key)
    await stack.node.close()
    await chat.send('How do I use tar?')
    await chat.state('failed')
    expect(await chat.lastAnswer.getByRole('alert').textContent()).toContain('No gpu node is up')
    await chat.button('Try again').click()
    await chat.lastAnswer.getByText('2 / 2').waitFor()
    await chat.state('failed')
    // A page that is opened now has no model, and says so before anything is asked.
    await chat.page.reload()
    await chat.page.locator('#problem', { hasText: 'no_gpu_node' }).waitFor()
    expect(await chat.page.locator('article.prompt p').textContent()).toBe('How do I use tar?')
    await chat.close()
  })
})

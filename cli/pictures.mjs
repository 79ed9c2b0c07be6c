// `npm run pictures`: serves the default model, asks it on the chat page in Chromium, and takes the pictures that the
// documents show (docs/images). Answers are greedy, so that on one kind of machine only times differ.
import { writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { chromium } from 'playwright-core'
import { info, root } from './setup/report.mjs'
import { serve } from './setup/served.mjs'

const CHROMIUM = process.env.CHROMIUM || '/usr/bin/chromium'
const PROMPT = 'Give me five tips for sleeping better.'
const WIDE = { viewport: { width: 1200, height: 830 } }
const PHONE = { viewport: { width: 360, height: 720 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 }
const GREEDY = JSON.stringify({ parallel: true, temperature: 0 })

const server = await serve([])
const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] })
try {
  const page = await answered(WIDE)
  await take(page, 'page')
  await page.getByRole('button', { name: 'Bad answer' }).click()
  await page.locator('.reason textarea').fill('The last tip has little to do with sleep.')
  await take(page, 'page-feedback')
  await page.getByRole('button', { name: 'Race: parallel against serial' }).click()
  await page.getByRole('button', { name: 'Start' }).click()
  await page.locator('.verdict').waitFor({ timeout: 120_000 })
  await take(page, 'page-race')
  await take(await answered(PHONE), 'page-phone')
} finally {
  await browser.close()
  await server.close()
}

/** A page of its own on which the prompt was answered. */
async function answered(options) {
  const context = await browser.newContext({ ...options, colorScheme: 'light' })
  await context.addInitScript(`localStorage.setItem('apar-settings', '${GREEDY}')`)
  const page = await context.newPage()
  await page.goto(`${server.url}/#key=${server.key}`)
  await page.locator('#model:enabled').waitFor()
  await page.locator('#prompt').fill(PROMPT)
  await page.locator('#send').click()
  await page.locator('article.answer[data-state="complete"]').waitFor({ timeout: 120_000 })
  return page
}

/** As WebP, a third of the size of PNG, which Playwright does not offer. */
async function take(page, name) {
  const devtools = await page.context().newCDPSession(page)
  const { data } = await devtools.send('Page.captureScreenshot', { format: 'webp', quality: 82 })
  const file = join(root, 'docs/images', `${name}.webp`)
  writeFileSync(file, Buffer.from(data, 'base64'))
  info(`${relative(root, file)}: ${Math.round((data.length * 3) / 4 / 1000)} kB`)
}

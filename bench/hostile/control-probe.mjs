// Runs in a process of its own, so that what the bench does besides delays no probe: asks for `URL` every `EVERY_MS`,
// until its parent disconnects. Reports each round trip in ms to its parent.
import { Agent, get } from 'node:http'

const { URL: url = '', EVERY_MS = '20' } = process.env
const agent = new Agent({ keepAlive: true, maxSockets: 1 })

/** The parent may end first. */
function ignoreErrors() {}

function probe() {
  const begun = performance.now()
  get(url, { agent }, (answer) => {
    answer.resume().once('end', () => {
      process.send?.(performance.now() - begun, undefined, {}, ignoreErrors)
      setTimeout(probe, Number(EVERY_MS))
    })
  })
}

process.once('disconnect', () => process.exit())
probe()

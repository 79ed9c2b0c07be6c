// Runs in a process of its own: sends requests with unknown keys to `URL`, `RATE` a second, until its parent
// disconnects. Each has another key. Reports to its parent how many answers of each status came.
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'

const SOCKETS = 32
const TICK_MS = 10
/** The stranger does not wait for answers, but an edge that does not answer at all must not fill this process. */
const MAX_WAITING = 5_000
const BODY = JSON.stringify({ model: 'paced', messages: [{ role: 'user', content: 'Hello' }], max_tokens: 2 })

const { URL: url = '', RATE = '2000' } = process.env
const { hostname, port } = new URL(url)
const perTick = (Number(RATE) * TICK_MS) / 1000
const statuses = {}
let [sent, answered, lost] = [0, 0, 0]

function open() {
  const socket = connect(Number(port), hostname).setEncoding('latin1').setNoDelay()
  const state = { socket, waiting: 0, rest: '' }
  socket.on('data', (data) => {
    const lines = (state.rest + data).split('\r\n')
    state.rest = lines.pop() ?? ''
    for (const line of lines) {
      // A body without a line end at its end may come before the status line.
      const [, status] = /HTTP\/1\.1 (\d{3}) /.exec(line) ?? []
      if (!status) continue
      statuses[status] = (statuses[status] ?? 0) + 1
      state.waiting--
      answered++
    }
  })
  socket.on('error', () => {})
  socket.on('close', () => {
    lost += state.waiting
    sockets.splice(sockets.indexOf(state), 1, open())
  })
  return state
}

const sockets = Array.from({ length: SOCKETS }, open)

function request() {
  const key = `apar_${randomBytes(6).toString('hex')}_${randomBytes(24).toString('base64url')}`
  return [
    'POST /v1/chat/completions HTTP/1.1',
    `host: ${hostname}`,
    `authorization: Bearer ${key}`,
    'content-type: application/json',
    `content-length: ${BODY.length}`,
    '',
    BODY,
  ].join('\r\n')
}

/** The parent may end first. */
function ignoreErrors() {}

const begun = performance.now()
setInterval(() => {
  const due = ((performance.now() - begun) / TICK_MS) * perTick
  while (sent < due && sent - answered - lost < MAX_WAITING) {
    const state = sockets[sent % SOCKETS]
    state.socket.write(request())
    state.waiting++
    sent++
  }
}, TICK_MS)
setInterval(
  () =>
    process.send?.(
      { seconds: (performance.now() - begun) / 1000, sent, statuses, lost },
      undefined,
      {},
      ignoreErrors,
    ),
  500,
)
process.once('disconnect', () => process.exit())

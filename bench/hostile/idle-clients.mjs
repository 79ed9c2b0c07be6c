// Runs in a process of its own: keeps opening WebSockets with `KEY` at `URL`, up to `SOCKETS` at a time, that send
// nothing, until its parent disconnects. Every second one is a shared socket. Reports to its parent.
import WebSocket from 'ws'

const { URL: url = '', KEY: key = '', SOCKETS = '5000' } = process.env
/** Handshakes a second. */
const RATE = 200
const TICK_MS = 20

const report = { tried: 0, opened: 0, open: 0, mostOpen: 0, closed: {}, refused: {}, failed: 0 }
const sockets = new Set()
let pending = 0

function count(counts, name) {
  counts[name] = (counts[name] ?? 0) + 1
}

function open() {
  report.tried++
  pending++
  const protocol = report.tried % 2 === 0 ? 'apar.mux.v1' : 'apar.v1'
  const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/stream`, protocol, {
    headers: { authorization: `Bearer ${key}` },
  })
  let opened = false
  socket.on('open', () => {
    opened = true
    pending--
    report.opened++
    report.open++
  })
  socket.on('unexpected-response', (request, response) => {
    pending--
    let body = ''
    response.setEncoding('utf8')
    response.on('data', (data) => {
      body += data
    })
    response.on('end', () => {
      count(report.refused, codeOf(body) ?? response.statusCode)
      request.destroy()
    })
  })
  socket.on('error', () => {
    if (opened) return
    pending--
    report.failed++
  })
  sockets.add(socket)
  socket.on('close', (code) => {
    sockets.delete(socket)
    if (!opened) return
    report.open--
    count(report.closed, code)
  })
}

function codeOf(body) {
  try {
    return JSON.parse(body).error.code
  } catch {
    return undefined
  }
}

/** The parent may end first. */
function ignoreErrors() {}

const begun = performance.now()
setInterval(() => {
  const due = ((performance.now() - begun) / 1000) * RATE
  while (report.tried < due && report.open + pending < Number(SOCKETS)) open()
}, TICK_MS)
setInterval(() => {
  // Without those that the edge has closed, whose connections have not ended yet.
  const open = [...sockets].filter(({ readyState }) => readyState === WebSocket.OPEN).length
  report.mostOpen = Math.max(report.mostOpen, open)
  process.send?.(report, undefined, {}, ignoreErrors)
}, 500)
process.once('disconnect', () => process.exit())

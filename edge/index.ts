import { createApp } from './app.ts'

export { DialledInNode } from './durable/dialled-in-node.ts'
export { Fleet } from './durable/fleet.ts'
export { KeyLimits } from './durable/key-limits.ts'
export { KeyStore } from './durable/key-store.ts'
export { SharedSocket } from './durable/shared-socket.ts'
export { StreamSession } from './durable/stream-session.ts'

export default createApp()

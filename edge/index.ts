import { createApp } from './app.ts'

export { FeedbackStore } from './feedback/feedback-store.ts'
export { AddressSockets } from './keys/address-sockets.ts'
export { KeyLimits } from './keys/key-limits.ts'
export { KeyStore } from './keys/key-store.ts'
export { DialledInNode } from './nodes/dialled-in-node.ts'
export { Fleet } from './nodes/fleet.ts'
export { ResponseStore } from './responses/response-store.ts'
export { SharedSocket } from './streams/multiplex/shared-socket.ts'
export { StreamRecords } from './streams/stream-records.ts'
export { StreamSession } from './streams/stream-session.ts'

export default createApp()

export type PeerName = 'vllm' | 'openvino'
export const PEERS: readonly PeerName[]
export const peersFolder: string
export function lockFile(peer: PeerName): string
export function environmentFolder(peer: PeerName, root: string): string

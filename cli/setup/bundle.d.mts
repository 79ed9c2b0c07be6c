export declare function bundle(): Promise<void>
export declare function bundlePromptWorker(): Promise<void>

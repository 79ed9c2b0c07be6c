export declare function notesOf(changelog: string, version: string): string
export declare function released(changelog: string, version: string): string

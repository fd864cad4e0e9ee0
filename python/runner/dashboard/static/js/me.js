// Who we are to the runner: the scopes of our token, or everything for its own user on this machine.
export const me = { scopes: new Set(), signedIn: false };
export const mayOperate = () => me.scopes.has("operate");
export const mayAdmin = () => me.scopes.has("admin");

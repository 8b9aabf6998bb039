// What the playground remembers: in this browser alone, by account. It never goes to the server but as a request.

const opened = () => new Promise((resolve, reject) => {
  const asked = indexedDB.open("playground", 1);
  asked.onupgradeneeded = () => asked.result.createObjectStore("benches");
  asked.onsuccess = () => resolve(asked.result);
  asked.onerror = () => reject(asked.error);
});

const within = async (mode, work) => {
  const database = await opened();
  try {
    return await new Promise((resolve, reject) => {
      const change = database.transaction("benches", mode);
      const asked = work(change.objectStore("benches"));
      change.oncomplete = () => resolve(asked.result);
      change.onabort = change.onerror = () => reject(change.error);
    });
  } finally {
    database.close();
  }
};

export const recall = (account) => within("readonly", (store) => store.get(account));
export const keep = (account, bench) => within("readwrite", (store) => store.put(bench, account));
export const forget = (account) => within("readwrite", (store) => store.delete(account));

// What the playground remembers: in this browser alone, by account. It never goes to the server but as a request.

const opened = () => new Promise((resolve, reject) => {
  const asked = indexedDB.open("playground", 1);
  asked.onupgradeneeded = () => asked.result.createObjectStore("benches");
  asked.onsuccess = () => resolve(asked.result);
  asked.onerror = () => reject(asked.error);
});

// One connection as long as the page stands: who leaves has no time left for another.
let connection = null;
const connected = () => {
  connection ??= opened().then((database) => {
    database.onversionchange = () => { database.close(); connection = null; };
    database.onclose = () => { connection = null; };
    return database;
  }, (error) => { connection = null; throw error; });
  return connection;
};

const within = async (mode, work) => {
  const database = await connected();
  return await new Promise((resolve, reject) => {
    const change = database.transaction("benches", mode, { durability: "relaxed" });
    const asked = work(change.objectStore("benches"));
    change.oncomplete = () => resolve(asked.result);
    change.onabort = change.onerror = () => reject(change.error);
    change.commit(); // at once, and not after a turn that a page which is left does not get
  });
};

export const recall = (account) => within("readonly", (store) => store.get(account));
export const keep = (account, bench) => within("readwrite", (store) => store.put(bench, account));
export const forget = (account) => within("readwrite", (store) => store.delete(account));

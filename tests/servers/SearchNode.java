import java.lang.reflect.Constructor;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;

/**
 * Starts one Elasticsearch or OpenSearch node from the jars on the class path, without the vendors' start scripts: those
 * refuse to run as root, and do not like every path that a clone may have.
 *
 * java -cp ... SearchNode org.opensearch HOME PLUGIN_CLASS...   (HOME/config is read)
 */
public final class SearchNode {
    public static void main(String[] args) throws Exception {
        String root = args[0];
        Path home = Path.of(args[1]).toAbsolutePath();
        Class<?> settings = Class.forName(root + ".common.settings.Settings");
        Class<?> environment = Class.forName(root + ".env.Environment");
        Object env = Class.forName(root + ".node.InternalSettingsPreparer")
            .getMethod("prepareEnvironment", settings, Map.class, Path.class, Supplier.class)
            .invoke(null, settings.getField("EMPTY").get(null), Map.of("path.home", home.toString()),
                home.resolve("config"), (Supplier<String>) () -> "node");
        Class<?> logging = Class.forName(root + ".common.logging.LogConfigurator");
        logging.getMethod("registerErrorListener").invoke(null);
        logging.getMethod("configure", environment).invoke(null, env);
        List<Class<?>> plugins = new ArrayList<>();
        for (int i = 2; i < args.length; i++) plugins.add(Class.forName(args[i]));
        // The public constructor takes no plugins from the class path.
        Constructor<?> constructor = Class.forName(root + ".node.Node")
            .getDeclaredConstructor(environment, Collection.class, boolean.class);
        constructor.setAccessible(true);
        Object node = constructor.newInstance(env, plugins, false);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                ((AutoCloseable) node).close();
            } catch (Exception error) {
                error.printStackTrace();
            }
        }));
        node.getClass().getMethod("start").invoke(node);
        Thread.currentThread().join();
    }
}
